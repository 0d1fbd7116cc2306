#include <limits>

#include "kernels/common/simd.h"

namespace qfm::QFM_ISA {

// exp is computed twice rather than kept: y may be bf16, too coarse to be summed.
template <class T>
void softmax_forward(T* y, const T* x, int64_t rows, int64_t cols) {
  constexpr float lowest = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < rows; ++i, x += cols, y += cols) {
    vf most = broadcast(lowest), sum = zero();
    for_vectors(cols, [&](int64_t j, auto part) { most = max(most, kept(load(x + j, part), part, lowest)); });
    most = broadcast(reduce_max(most));
    for_vectors(cols, [&](int64_t j, auto part) { sum = sum + kept(exp(load(x + j, part) - most), part); });
    const vf share = broadcast(1.0f / reduce_add(sum));
    for_vectors(cols,
                [&](int64_t j, auto part) { store(y + j, exp(load(x + j, part) - most) * share, part); });
  }
}

template <class T>
void softmax_backward(T* dx, const T* dy, const T* y, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i, dx += cols, dy += cols, y += cols) {
    vf dot = zero();
    for_vectors(cols, [&](int64_t j, auto part) { dot = fma(load(dy + j, part), load(y + j, part), dot); });
    dot = broadcast(reduce_add(dot));
    for_vectors(cols, [&](int64_t j, auto part) {
      store(dx + j, load(y + j, part) * (load(dy + j, part) - dot), part);
    });
  }
}

#define QFM_INSTANTIATE(T)                                       \
  template void softmax_forward(T*, const T*, int64_t, int64_t); \
  template void softmax_backward(T*, const T*, const T*, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
