#include "kernels/common/simd.h"

namespace qfm::QFM_ISA {

template <class T>
void layerscale_forward(T* y, const T* x, const T* gamma, const T* residual, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i, x += cols, y += cols, residual += cols)
    for_vectors(cols, [&](int64_t j, auto part) {
      store(y + j, fma(load(gamma + j, part), load(x + j, part), load(residual + j, part)), part);
    });
}

template <class T>
void layerscale_backward(T* dx, float* dgamma, const T* dy, const T* x, const T* gamma, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i, x += cols, dy += cols, dx += cols)
    for_vectors(cols, [&](int64_t j, auto part) {
      const vf d = load(dy + j, part);
      store(dgamma + j, fma(d, load(x + j, part), load(dgamma + j, part)), part);
      store(dx + j, load(gamma + j, part) * d, part);
    });
}

#define QFM_INSTANTIATE(T)                                                              \
  template void layerscale_forward(T*, const T*, const T*, const T*, int64_t, int64_t); \
  template void layerscale_backward(T*, float*, const T*, const T*, const T*, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
