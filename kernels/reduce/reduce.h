// Sums over rows and tokens, norms and cosines of rows, in a fixed order (kernels/common/reduce_rows.h).
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

// y[j] = sum over rows of x[i, j], x (rows, cols): bias gradients. Overwrites y.
template <class T>
void sum_rows(Cpu, acc<T>* y, const T* x, int64_t rows, int64_t cols);
template <class T>
void sum_rows(Cuda, acc<T>* y, const T* x, int64_t rows, int64_t cols);

// y[b, d] = mean over tokens of x[b, t, d]; backward: dx = dy / tokens.
template <class T>
void mean_tokens_forward(Cpu, T* y, const T* x, int64_t batch, int64_t tokens, int64_t dim);
template <class T>
void mean_tokens_forward(Cuda, T* y, const T* x, int64_t batch, int64_t tokens, int64_t dim);
template <class T>
void mean_tokens_backward(Cpu, T* dx, const T* dy, int64_t batch, int64_t tokens, int64_t dim);
template <class T>
void mean_tokens_backward(Cuda, T* dx, const T* dy, int64_t batch, int64_t tokens, int64_t dim);

// Sum of squares of n values in double: gradient norms.
template <class T>
double sum_squares(Cpu, const T* x, int64_t n);
// The same into one double in device memory: nothing waits for it.
template <class T>
void sum_squares(Cuda, double* sum, const T* x, int64_t n);

// L2 normalisation of rows: y = x / max(|x|, eps); norm (rows) keeps |x|.
// Backward: dx = (dy - y sum(dy y)) / |x|, and dy / eps where |x| < eps.
template <class T>
void l2norm_forward(Cpu, T* y, acc<T>* norm, const T* x, int64_t rows, int64_t cols, double eps);
template <class T>
void l2norm_forward(Cuda, T* y, acc<T>* norm, const T* x, int64_t rows, int64_t cols, double eps);
template <class T>
void l2norm_backward(Cpu, T* dx, const T* dy, const T* y, const acc<T>* norm, int64_t rows, int64_t cols,
                     double eps);
template <class T>
void l2norm_backward(Cuda, T* dx, const T* dy, const T* y, const acc<T>* norm, int64_t rows, int64_t cols,
                     double eps);

// Cosine of rows: y[i] = a_i . b_i / (max(|a_i|, eps) max(|b_i|, eps)).
template <class T>
void cosine_forward(Cpu, T* y, const T* a, const T* b, int64_t rows, int64_t cols, double eps);
template <class T>
void cosine_forward(Cuda, T* y, const T* a, const T* b, int64_t rows, int64_t cols, double eps);
// With u = a / |a|, w = b / |b| (each norm at least eps): da = dy (w - y u) / |a|, db = dy (u - y w) / |b|;
// a norm below eps counts as a constant.
template <class T>
void cosine_backward(Cpu, T* da, T* db, const T* dy, const T* a, const T* b, int64_t rows, int64_t cols,
                     double eps);
template <class T>
void cosine_backward(Cuda, T* da, T* db, const T* dy, const T* a, const T* b, int64_t rows, int64_t cols,
                     double eps);

}  // namespace qfm
