#include "kernels/common/simd.h"

namespace qfm::QFM_ISA {

template <class T>
void gelu_forward(T* y, const T* x, int64_t n) {
  for_vectors(n, [&](int64_t i, auto part) { store(y + i, gelu(load(x + i, part)), part); });
}

template <class T>
void gelu_backward(T* dx, const T* dy, const T* x, int64_t n) {
  for_vectors(n, [&](int64_t i, auto part) {
    store(dx + i, load(dy + i, part) * gelu_grad(load(x + i, part)), part);
  });
}

#define QFM_INSTANTIATE(T)                           \
  template void gelu_forward(T*, const T*, int64_t); \
  template void gelu_backward(T*, const T*, const T*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
