// Layer normalisation over the last dimension: y = (x - mean) * rstd * w + b, rstd = 1 / sqrt(var +
// eps), var biased.
//
// Backward, with h = (x - mean) * rstd and g = dy * w:  dx = rstd * (g - mean(g) - h * mean(g h)),
// dw = sum over rows of dy h, db = sum over rows of dy.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"
#include "kernels/pointwise/quantise.h"

namespace qfm {

// x, y (rows, cols); w, b (cols); mean, rstd (rows), written for the backward. The variance is taken from
// deviations (two passes), so rows far from zero keep their digits.
template <class T>
void layernorm_forward(Cpu, T* y, acc<T>* mean, acc<T>* rstd, const T* x, const T* w, const T* b,
                       int64_t rows, int64_t cols, double eps);
template <class T>
void layernorm_forward(Cuda, T* y, acc<T>* mean, acc<T>* rstd, const T* x, const T* w, const T* b,
                       int64_t rows, int64_t cols, double eps);

// The same with y (rows, int8_row_bytes(cols)) quantised as it is made (pointwise/quantise.h), for inference.
void layernorm_forward(Cpu, uint8_t* y, const float* x, const float* w, const float* b, int64_t rows, int64_t cols,
                       double eps);

// Elements of acc<T> that the backward needs as workspace: partial sums of dw and db over fixed
// chunks of rows.
int64_t layernorm_workspace(int64_t rows, int64_t cols);

// dx (rows, cols); dw, db (cols), overwritten.
template <class T>
void layernorm_backward(Cpu, T* dx, acc<T>* dw, acc<T>* db, const T* dy, const T* x, const T* w,
                        const acc<T>* mean, const acc<T>* rstd, acc<T>* workspace, int64_t rows,
                        int64_t cols);
template <class T>
void layernorm_backward(Cuda, T* dx, acc<T>* dw, acc<T>* db, const T* dy, const T* x, const T* w,
                        const acc<T>* mean, const acc<T>* rstd, acc<T>* workspace, int64_t rows,
                        int64_t cols);

// residual + gamma * x (residual + x where gamma is null), of (rows, cols) and gamma (cols).
template <class T>
void residual_sum(Cpu, T* sum, const T* x, const T* gamma, const T* residual, int64_t rows, int64_t cols);

// The residual before the normalisation: sum = residual + gamma * x (residual + x where gamma is null), y =
// layernorm(sum). x, residual, sum, y (rows, cols), gamma (cols). Bits are those of layerscale_forward or
// add, then layernorm_forward: sum is rounded to T before it is normalised.
template <class T>
void residual_layernorm_forward(Cpu, T* sum, T* y, acc<T>* mean, acc<T>* rstd, const T* x, const T* gamma,
                                const T* residual, const T* w, const T* b, int64_t rows, int64_t cols,
                                double eps);
template <class T>
void residual_layernorm_forward(Cuda, T* sum, T* y, acc<T>* mean, acc<T>* rstd, const T* x, const T* gamma,
                                const T* residual, const T* w, const T* b, int64_t rows, int64_t cols,
                                double eps);

// From the gradients of y and, where dsum_in is not null, of sum:
//   dsum = layernorm's dx + dsum_in,  dx = gamma * dsum,  dgamma = sum over rows of dsum x,  dw, db as above
// dsum (rows, cols) is the gradient of residual as well; without a gamma it is x's too, and dx, dgamma
// and x are not looked at. Bits are those of layernorm_backward, add and layerscale_backward; on CUDA,
// but for dgamma's.
template <class T>
void residual_layernorm_backward(Cpu, T* dsum, T* dx, acc<T>* dgamma, acc<T>* dw, acc<T>* db, const T* dy,
                                 const T* dsum_in, const T* sum, const T* x, const T* gamma, const T* w,
                                 const acc<T>* mean, const acc<T>* rstd, int64_t rows, int64_t cols);
template <class T>
void residual_layernorm_backward(Cuda, T* dsum, T* dx, acc<T>* dgamma, acc<T>* dw, acc<T>* db, const T* dy,
                                 const T* dsum_in, const T* sum, const T* x, const T* gamma, const T* w,
                                 const acc<T>* mean, const acc<T>* rstd, int64_t rows, int64_t cols);

}  // namespace qfm
