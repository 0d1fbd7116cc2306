#include "kernels/reduce/softmax.h"

#include <cmath>

#include "kernels/common/parallel_loops.h"

QFM_DECLARE_ISA(template <class T> void softmax_forward(T* y, const T* x, int64_t rows, int64_t cols);
                template <class T>
                void softmax_backward(T* dx, const T* dy, const T* y, int64_t rows, int64_t cols);)

namespace qfm {
namespace plain {
namespace {

template <class T>
void softmax_forward(T* y, const T* x, int64_t rows, int64_t cols) {
  using A = acc<T>;
  for (int64_t i = 0; i < rows; ++i, x += cols, y += cols) {
    A most = A(x[0]), sum = 0;
    for (int64_t j = 1; j < cols; ++j) most = std::max(most, A(x[j]));
    for (int64_t j = 0; j < cols; ++j) sum += std::exp(A(x[j]) - most);
    for (int64_t j = 0; j < cols; ++j) y[j] = T(std::exp(A(x[j]) - most) / sum);
  }
}

template <class T>
void softmax_backward(T* dx, const T* dy, const T* y, int64_t rows, int64_t cols) {
  using A = acc<T>;
  for (int64_t i = 0; i < rows; ++i, dx += cols, dy += cols, y += cols) {
    A dot = 0;
    for (int64_t j = 0; j < cols; ++j) dot += A(dy[j]) * A(y[j]);
    for (int64_t j = 0; j < cols; ++j) dx[j] = T(A(y[j]) * (A(dy[j]) - dot));
  }
}

}  // namespace
}  // namespace plain

template <class T>
void softmax_forward(Cpu, T* y, const T* x, int64_t rows, int64_t cols) {
  if (cols == 0) return;
  const auto run = QFM_BEST_ISA(softmax_forward, T);
  for_rows(rows, cols,
           [&](int64_t begin, int64_t end) { run(y + begin * cols, x + begin * cols, end - begin, cols); });
}

template <class T>
void softmax_backward(Cpu, T* dx, const T* dy, const T* y, int64_t rows, int64_t cols) {
  const auto run = QFM_BEST_ISA(softmax_backward, T);
  for_rows(rows, cols, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * cols;
    run(dx + at, dy + at, y + at, end - begin, cols);
  });
}

#define QFM_INSTANTIATE(T)                                            \
  template void softmax_forward(Cpu, T*, const T*, int64_t, int64_t); \
  template void softmax_backward(Cpu, T*, const T*, const T*, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
