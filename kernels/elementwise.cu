// Elementwise functions on CUDA; the contracts are in elementwise.h.
//
// Cost of add, for n elements of e bytes: reads a and b, writes y: 3 n e bytes; n FLOPs. The memory's time is
// the floor, reached by 16 bytes a thread.
#include <algorithm>

#include "engine/base/launch.h"
#include "engine/base/warp_ops.h"
#include "kernels/elementwise.h"

namespace qfm {
namespace {

constexpr int kThreads = 256;

// Thread i adds elements i V .. i V + V - 1, then those a whole grid further on.
template <class T, int V>
__global__ void __launch_bounds__(kThreads) add_kernel(T* y, const T* a, const T* b, int64_t n) {
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  for (int64_t i = first; i < n; i += int64_t{gridDim.x} * kThreads * V) {
    const Pack<T, V> as = load<V>(a + i), bs = load<V>(b + i);
    Pack<T, V> ys;
    for (int k = 0; k < V; ++k) ys.at[k] = T(static_cast<float>(as.at[k]) + static_cast<float>(bs.at[k]));
    store<V>(y + i, ys);
  }
}

}  // namespace

template <class T>
void add(Cuda cuda, T* y, const T* a, const T* b, int64_t n) {
  if (n == 0) return;
  const auto run = [&]<int V>(Lanes<V>) {
    const int64_t blocks = (n - 1) / (kThreads * V) + 1;
    launch<add_kernel<T, V>>(std::min<int64_t>(blocks, 65535), kThreads, 0, cuda.stream, y, a, b, n);
  };
  if (in_packs<T>(n, {y, a, b})) run(Lanes<kPack<T>>{});
  else run(Lanes<1>{});
}

template void add(Cuda, float*, const float*, const float*, int64_t);
template void add(Cuda, bf16*, const bf16*, const bf16*, int64_t);

}  // namespace qfm
