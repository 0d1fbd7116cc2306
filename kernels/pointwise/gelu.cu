// GELU on CUDA, the erf form; the contract is in gelu.h, one value in gelu.cuh. Inside the model GELU is an
// epilogue of the matrix product before it (gemm.cu); these stand alone.
//
// Maths:  y = x F(x) with F(x) = (1 + erf(x / sqrt 2)) / 2;  dx = dy (F(x) + x exp(-x^2 / 2) / sqrt(2 pi)).
//
// Cost, for n elements of e bytes (n = 256 x 197 x 1536, bf16, 3.35 TB/s): forward 2 n e bytes (310 MB: floor
// 92 us), backward 3 n e (465 MB: 139 us); erf is some 20 FLOPs, 25 with the rest, 40 in the backward: 2 and
// 3 GFLOP, which an H100's 67 TFLOP/s do in 30 and 46 us, so that the memory hides them.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/pointwise/gelu.cuh"
#include "kernels/pointwise/gelu.h"

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
