// GELU on CUDA, the erf form; the contract is in gelu.h, one value in gelu.cuh. Inside the model GELU is an
// epilogue of the matrix product before it (gemm.cu); these stand alone.
//
// Cost, for n elements of e bytes: forward 2 n e bytes, backward 3 n e; erff takes some 20 instructions,
// which the memory hides.
#include "kernels/gelu.cuh"
#include "kernels/gelu.h"
#include "kernels/run.cuh"

namespace qfm {
namespace {

struct Gelu {
  __device__ float operator()(float x) const { return gelu(x); }
};
struct GeluBackward {
  __device__ float operator()(float dy, float x) const { return dy * gelu_grad(x); }
};

}  // namespace

template <class T>
void gelu_forward(Cuda cuda, T* y, const T* x, int64_t n) {
  map(cuda, Gelu{}, n, y, x);
}

template <class T>
void gelu_backward(Cuda cuda, T* dx, const T* dy, const T* x, int64_t n) {
  map(cuda, GeluBackward{}, n, dx, dy, x);
}

#define QFM_INSTANTIATE(T)                                 \
  template void gelu_forward(Cuda, T*, const T*, int64_t); \
  template void gelu_backward(Cuda, T*, const T*, const T*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
