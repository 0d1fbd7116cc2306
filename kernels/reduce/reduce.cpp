#include "kernels/reduce/reduce.h"

#include <cmath>

#include "kernels/common/parallel_loops.h"

QFM_DECLARE_ISA(template <class T> void sum_rows(float* y, const T* x, int64_t rows, int64_t cols);
                template <class T> double sum_squares(const T* x, int64_t n);)

namespace qfm {
namespace plain {
namespace {

// Adds to y.
template <class T>
void sum_rows(acc<T>* y, const T* x, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) y[j] += static_cast<acc<T>>(x[i * cols + j]);
}

template <class T>
double sum_squares(const T* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += to<double>(x[i]) * to<double>(x[i]);
  return sum;
}

}  // namespace
}  // namespace plain

template <class T>
void sum_rows(Cpu, acc<T>* y, const T* x, int64_t rows, int64_t cols) {
  const auto run = QFM_BEST_ISA(sum_rows, T);
  Scratch scratch(reduce_chunks(rows) * cols * sizeof(acc<T>));
  acc<T>* slots = scratch.as<acc<T>>();
  partial_sums(slots, cols, rows, [&](acc<T>* slot, int64_t begin, int64_t end) {
    run(slot, x + begin * cols, end - begin, cols);
  });
  add_slots(y, slots, reduce_chunks(rows), cols, cols);
}

template <class T>
double sum_squares(Cpu, const T* x, int64_t n) {
  const auto run = QFM_BEST_ISA(sum_squares, T);
  return sum_ranges(n, [&](int64_t begin, int64_t end) { return run(x + begin, end - begin); });
}

template <class T>
void mean_tokens_forward(Cpu, T* y, const T* x, int64_t batch, int64_t tokens, int64_t dim) {
  using A = acc<T>;
  const auto run = QFM_BEST_ISA(sum_rows, T);
  parallel_for(batch, [=](int64_t b) {
    const T* image = x + b * tokens * dim;
    Scratch scratch(dim * sizeof(A));
    A* sum = scratch.as<A>();
    std::fill(sum, sum + dim, A{0});
    run(sum, image, tokens, dim);
    for (int64_t d = 0; d < dim; ++d) y[b * dim + d] = T(sum[d] / static_cast<A>(tokens));
  });
}

template <class T>
void mean_tokens_backward(Cpu, T* dx, const T* dy, int64_t batch, int64_t tokens, int64_t dim) {
  using A = acc<T>;
  parallel_for(batch, [=](int64_t b) {
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t d = 0; d < dim; ++d)
        dx[(b * tokens + t) * dim + d] = T(A(dy[b * dim + d]) / static_cast<A>(tokens));
  });
}

namespace {

template <class T>
double dot(const T* a, const T* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += to<double>(a[i]) * to<double>(b[i]);
  return sum;
}

}  // namespace

template <class T>
void l2norm_forward(Cpu, T* y, acc<T>* norm, const T* x, int64_t rows, int64_t cols, double eps) {
  for_rows(rows, cols, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = x + i * cols;
      const double length = std::sqrt(dot(row, row, cols));
      for (int64_t j = 0; j < cols; ++j) y[i * cols + j] = to<T>(to<double>(row[j]) / std::max(length, eps));
      norm[i] = static_cast<acc<T>>(length);
    }
  });
}

template <class T>
void l2norm_backward(Cpu, T* dx, const T* dy, const T* y, const acc<T>* norm, int64_t rows, int64_t cols,
                     double eps) {
  for_rows(rows, cols, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i * cols;
      const double length = static_cast<double>(norm[i]);
      const double along = length < eps ? 0 : dot(dy + at, y + at, cols);
      for (int64_t j = at; j < at + cols; ++j)
        dx[j] = to<T>((to<double>(dy[j]) - to<double>(y[j]) * along) / std::max(length, eps));
    }
  });
}

template <class T>
void cosine_forward(Cpu, T* y, const T* a, const T* b, int64_t rows, int64_t cols, double eps) {
  for_rows(rows, cols, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T *p = a + i * cols, *q = b + i * cols;
      const double np = std::sqrt(dot(p, p, cols)), nq = std::sqrt(dot(q, q, cols));
      y[i] = to<T>(dot(p, q, cols) / (std::max(np, eps) * std::max(nq, eps)));
    }
  });
}

template <class T>
void cosine_backward(Cpu, T* da, T* db, const T* dy, const T* a, const T* b, int64_t rows, int64_t cols,
                     double eps) {
  for_rows(rows, cols, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i * cols;
      const double size_a = std::sqrt(dot(a + at, a + at, cols)),
                   size_b = std::sqrt(dot(b + at, b + at, cols));
      const double na = std::max(size_a, eps), nb = std::max(size_b, eps);
      const double y = dot(a + at, b + at, cols) / (na * nb), g = to<double>(dy[i]);
      const double ya = size_a < eps ? 0 : y, yb = size_b < eps ? 0 : y;
      for (int64_t j = at; j < at + cols; ++j) {
        const double u = to<double>(a[j]) / na, w = to<double>(b[j]) / nb;
        da[j] = to<T>(g * (w - ya * u) / na);
        db[j] = to<T>(g * (u - yb * w) / nb);
      }
    }
  });
}

#define QFM_INSTANTIATE(T)                                                                             \
  template void sum_rows(Cpu, acc<T>*, const T*, int64_t, int64_t);                                    \
  template double sum_squares(Cpu, const T*, int64_t);                                                 \
  template void mean_tokens_forward(Cpu, T*, const T*, int64_t, int64_t, int64_t);                     \
  template void mean_tokens_backward(Cpu, T*, const T*, int64_t, int64_t, int64_t);                    \
  template void l2norm_forward(Cpu, T*, acc<T>*, const T*, int64_t, int64_t, double);                  \
  template void l2norm_backward(Cpu, T*, const T*, const T*, const acc<T>*, int64_t, int64_t, double); \
  template void cosine_forward(Cpu, T*, const T*, const T*, int64_t, int64_t, double);                 \
  template void cosine_backward(Cpu, T*, T*, const T*, const T*, const T*, int64_t, int64_t, double);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
