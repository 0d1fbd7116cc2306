// Sums and maxima over an axis, norms and cosines of rows, in a fixed order (kernels/common/reduce_rows.h).
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

// The second of three primitives (pointwise/map.h): x (outer, count, inner) reduced over the axis in the middle.
struct ReduceShape {
  int64_t outer, count, inner;
};
// y[o, i] = sum over c of x[o, c, i] factor[o, c, i], divided by `divisor`; factor may be null: ones. Out = T or acc<T>.
template <class T, class Out>
void reduce_sum(Cpu, ReduceShape shape, Out* y, const T* x, const T* factor = nullptr, double divisor = 1);
template <class T, class Out>
void reduce_sum(Cuda, ReduceShape shape, Out* y, const T* x, const T* factor = nullptr, double divisor = 1);
// y[o, i] = the largest x[o, c, i]; NaN where one is; minus infinity where count is 0.
template <class T>
void reduce_max(Cpu, ReduceShape shape, T* y, const T* x);
template <class T>
void reduce_max(Cuda, ReduceShape shape, T* y, const T* x);

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
