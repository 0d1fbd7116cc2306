#include "kernels/common/simd.h"

namespace qfm::QFM_ISA {

template <class T>
void add(T* y, const T* a, const T* b, int64_t n) {
  for_vectors(n, [&](int64_t i, auto part) { store(y + i, load(a + i, part) + load(b + i, part), part); });
}

template <class To, class From>
void cast(To* dst, const From* src, int64_t n) {
  for_vectors(n, [&](int64_t i, auto part) { store(dst + i, load(src + i, part), part); });
}

template <class T>
void layerscale_forward(T* y, const T* x, const T* gamma, const T* residual, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i, x += cols, y += cols) {
    const T* base = residual ? residual + i * cols : nullptr;
    for_vectors(cols, [&](int64_t j, auto part) {
      store(y + j, fma(load(gamma + j, part), load(x + j, part), base ? load(base + j, part) : zero()), part);
    });
  }
}

template <class T>
void layerscale_backward(T* dx, float* dgamma, const T* dy, const T* x, const T* gamma, int64_t rows,
                         int64_t cols) {
  for (int64_t i = 0; i < rows; ++i, x += cols, dy += cols, dx += cols)
    for_vectors(cols, [&](int64_t j, auto part) {
      const vf d = load(dy + j, part);
      store(dgamma + j, fma(d, load(x + j, part), load(dgamma + j, part)), part);
      store(dx + j, load(gamma + j, part) * d, part);
    });
}

#define QFM_INSTANTIATE(T)                                                              \
  template void add(T*, const T*, const T*, int64_t);                                   \
  template void cast(T*, const float*, int64_t);                                        \
  template void cast(T*, const bf16*, int64_t);                                         \
  template void layerscale_forward(T*, const T*, const T*, const T*, int64_t, int64_t); \
  template void layerscale_backward(T*, float*, const T*, const T*, const T*, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
