// The fastest that this instruction set multiplies and adds: independent accumulators in registers, nothing else.
#include "kernels/common/simd.h"

namespace qfm::QFM_ISA {

// Enough to fill two pipes of latency 4, and few enough to stay in the registers.
constexpr int kAccumulators = vf::width == 16 ? 24 : 12;

int64_t fma_loop_flops() { return int64_t{2} * vf::width * kAccumulators; }

float fma_loop(int64_t iterations, float scale, float offset) {
  const vf a = broadcast(scale), b = broadcast(offset);
  vf sum[kAccumulators];
  for (int i = 0; i < kAccumulators; ++i) sum[i] = broadcast(static_cast<float>(i));
  for (int64_t n = 0; n < iterations; ++n) {
#pragma GCC unroll 24
    for (int i = 0; i < kAccumulators; ++i) sum[i] = fma(sum[i], a, b);
  }
  vf total = sum[0];
  for (int i = 1; i < kAccumulators; ++i) total = total + sum[i];
  return reduce_add(total);
}

}  // namespace qfm::QFM_ISA
