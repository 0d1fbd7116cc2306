#include "kernels/norm/layerscale.h"

#include "kernels/common/parallel_loops.h"

QFM_DECLARE_ISA(template <class T> void layerscale_forward(T* y, const T* x, const T* gamma, const T* residual,
                                                           int64_t rows, int64_t cols);
                template <class T> void layerscale_backward(T* dx, float* dgamma, const T* dy, const T* x,
                                                            const T* gamma, int64_t rows, int64_t cols);)

namespace qfm {
namespace plain {
namespace {

template <class T>
void layerscale_forward(T* y, const T* x, const T* gamma, const T* residual, int64_t rows, int64_t cols) {
  using A = acc<T>;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) {
      const int64_t at = i * cols + j;
      y[at] = T(A(residual[at]) + A(gamma[j]) * A(x[at]));
    }
}

// Adds to dgamma.
template <class T>
void layerscale_backward(T* dx, acc<T>* dgamma, const T* dy, const T* x, const T* gamma, int64_t rows, int64_t cols) {
  using A = acc<T>;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) {
      const int64_t at = i * cols + j;
      dgamma[j] += A(dy[at]) * A(x[at]);
      dx[at] = T(A(gamma[j]) * A(dy[at]));
    }
}

}  // namespace
}  // namespace plain

template <class T>
void layerscale_forward(Cpu, T* y, const T* x, const T* gamma, const T* residual, int64_t rows, int64_t cols) {
  const auto run = QFM_BEST_ISA(layerscale_forward, T);
  for_rows(rows, cols, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * cols;
    run(y + at, x + at, gamma, residual + at, end - begin, cols);
  });
}

template <class T>
void layerscale_backward(Cpu, T* dx, acc<T>* dgamma, const T* dy, const T* x, const T* gamma, int64_t rows,
                         int64_t cols) {
  const auto run = QFM_BEST_ISA(layerscale_backward, T);
  Scratch scratch(reduce_chunks(rows) * cols * sizeof(acc<T>));
  acc<T>* slots = scratch.as<acc<T>>();
  partial_sums(slots, cols, rows, [&](acc<T>* slot, int64_t begin, int64_t end) {
    const int64_t at = begin * cols;
    run(dx + at, slot, dy + at, x + at, gamma, end - begin, cols);
  });
  add_slots(dgamma, slots, reduce_chunks(rows), cols, cols);
}

#define QFM_INSTANTIATE(T)                                                                   \
  template void layerscale_forward(Cpu, T*, const T*, const T*, const T*, int64_t, int64_t); \
  template void layerscale_backward(Cpu, T*, acc<T>*, const T*, const T*, const T*, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
