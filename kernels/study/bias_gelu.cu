// Bias and GELU after a matrix product, y = GELU(x w^T + bias): the same product in every step, what follows
// it ever nearer to it.
//
// For fc1 of ViT-S at 256 images (m = 50432, n = 1536) y is 155 MB in BF16, 52 us at an H100's 3.0 TB/s to
// read or to write, and the product alone takes 74 us at its matrix rate of 800 TFLOP/s. The arithmetic, some
// 25 instructions an element, hides behind any memory access: only the passes over y count.
#include <algorithm>

#include "engine/cuda/launch.h"
#include "engine/cuda/warp_ops.h"
#include "kernels/gemm/gemm.h"
#include "kernels/pointwise/map.h"
#include "kernels/study/study.h"

namespace qfm {
namespace {

constexpr int kThreads = 256;

int64_t blocks_for(int64_t threads) { return std::min<int64_t>((threads + kThreads - 1) / kThreads, 65535); }

void product(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w) {
  gemm_own(cuda, {m, n, k, false, true}, y, x, w);
}

// 1. Three kernels: product, bias, GELU. Bias and GELU each read y and write it: 4 passes, 22 us, almost
// three times what the product takes.
__global__ void __launch_bounds__(kThreads)
    add_bias_kernel(bf16* y, const bf16* bias, int64_t count, int64_t n) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kThreads)
    y[i] = bf16(static_cast<float>(y[i]) + static_cast<float>(bias[i % n]));
}
void three_kernels(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w,
                   const bf16* bias) {
  product(cuda, m, n, k, y, x, w);
  if (m * n == 0) return;
  launch<add_bias_kernel>(blocks_for(m * n), kThreads, 0, cuda.stream, y, bias, m * n, n);
  map(cuda, fn::Gelu{}, flat_space<1>(m * n), y, MapInputs<bf16, 1>{{y}});
}

// 2. Fused. Bias and GELU in one kernel: 2 passes, 103 us, and one rounding to BF16 less. A thread moves 2
// bytes at a time and divides to find its column.
__global__ void __launch_bounds__(kThreads)
    bias_gelu_kernel(bf16* y, const bf16* bias, int64_t count, int64_t n) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kThreads)
    y[i] = bf16(fn::gelu(static_cast<float>(y[i]) + static_cast<float>(bias[i % n])));
}
void fused(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w,
           const bf16* bias) {
  product(cuda, m, n, k, y, x, w);
  if (m * n == 0) return;
  launch<bias_gelu_kernel>(blocks_for(m * n), kThreads, 0, cuda.stream, y, bias, m * n, n);
}

// 3. Vectorised. The same 2 passes, but 16 bytes a load: an eighth of the memory instructions and of the
// divisions, and enough bytes under way to fill the memory's time; only now are the 103 us within reach.
__global__ void __launch_bounds__(kThreads)
    bias_gelu_packs_kernel(bf16* y, const bf16* bias, int64_t packs, int64_t packs_a_row) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < packs;
       i += int64_t{gridDim.x} * kThreads) {
    const auto v = load<8>(y + 8 * i), b = load<8>(bias + i % packs_a_row * 8);
    Pack<bf16, 8> to;
    for (int e = 0; e < 8; ++e)
      to.at[e] = bf16(fn::gelu(static_cast<float>(v.at[e]) + static_cast<float>(b.at[e])));
    store<8>(y + 8 * i, to);
  }
}
void vectorised(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w,
                const bf16* bias) {
  if (m * n == 0 || !in_packs<bf16>(n, {y, bias})) return fused(cuda, m, n, k, y, x, w, bias);
  product(cuda, m, n, k, y, x, w);
  launch<bias_gelu_packs_kernel>(blocks_for(m * n / 8), kThreads, 0, cuda.stream, y, bias, m * n / 8, n / 8);
}

// 4. Shipped (gemm_epilogue.cuh). The product applies bias and GELU to its sums before they are rounded and
// leave the SM: no pass over y at all, and the sums are still float. What is left is arithmetic beside the
// tensor cores.
void shipped(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w,
             const bf16* bias) {
  GemmEpilogue<bf16> e;
  e.bias = bias, e.gelu = true;
  gemm_own(cuda, {m, n, k, false, true}, y, x, w, e);
}

constexpr StudyStep<BiasGeluRun> kSteps[] = {
    {"three kernels", "product, bias, GELU: 4 passes over y", three_kernels},
    {"fused", "bias and GELU in one kernel: 2 passes", fused},
    {"vectorised", "16 bytes a load", vectorised},
    {"shipped", "in the epilogue of the product: no pass", shipped},
};

}  // namespace

std::span<const StudyStep<BiasGeluRun>> bias_gelu_steps() { return kSteps; }

}  // namespace qfm
