// AdamW on CUDA; the contract is in adamw.h.
//
// Maths: as in adamw.h, with the fused multiply-adds of the vector code, so that equal factors
// give equal bits.
//
// Cost, for n parameters with a bf16 copy: reads gradient, m, v and master, writes m, v, master and copy: 30
// n bytes (ViT-S, 22 M, 3.35 TB/s: floor 0.2 ms); about 15 n FLOPs, far below the memory's time. So one
// launch goes over the flat buffers of the whole model, 16 bytes a thread and buffer. The factors of the step
// are worked out before it by one thread, from numbers in device memory: a captured step needs nothing from
// the host, and one whose loss or norm is not finite passes without a trace.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/optim/adamw.h"

namespace qfm {
namespace {

__global__ void adamw_prepare_kernel(AdamWRule rule, StepState* state,
                                     const float* loss) {
  state->loss = *loss;
  state->norm = sqrt(state->squares);
  state->finite = std::isfinite(state->loss) && std::isfinite(state->norm);
  if (!state->finite) return;
  state->factors = adamw_scalars<float>(rule, state->lr, state->step, clip_factor(rule, state->norm));
}

// Elements before `decayed` shrink by the weight decay. Thread i has elements i V .. i V + V - 1, then those
// a whole grid further on.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const StepState* state, float* master, T* copy, float* m, float* v, const float* gradient,
                 int64_t n, int64_t decayed) {
  if (!state->finite) return;
  const AdamWScalars<float> s = state->factors;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V; i < n;
       i += int64_t{gridDim.x} * kThreads * V) {
    const Pack<float, V> gs = load<V>(gradient + i);
    Pack<float, V> ps = load<V>(master + i), ms = load<V>(m + i), vs = load<V>(v + i);
    Pack<T, V> copies;
    for (int k = 0; k < V; ++k) {
      const float g = s.clip * gs.at[k];
      ms.at[k] = fmaf(s.rate1, g - ms.at[k], ms.at[k]);
      vs.at[k] = fmaf(s.rate2 * g, g, s.beta2 * vs.at[k]);
      const float kept = i + k < decayed ? s.keep * ps.at[k] : ps.at[k];
      ps.at[k] = fmaf(-s.step, ms.at[k] / (sqrtf(vs.at[k]) / s.root + s.eps), kept);
      copies.at[k] = T(ps.at[k]);
    }
    store<V>(m + i, ms), store<V>(v + i, vs), store<V>(master + i, ps);
    if (copy) store<V>(copy + i, copies);
  }
}

// Cost: 12 n bytes, as every float is read and the averages are written.
template <int V>
__global__ void __launch_bounds__(kThreads)
    moving_average_kernel(const StepState* state, float* average, const float* master, float keep, float take,
                          int64_t n) {
  if (!state->finite) return;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V; i < n;
       i += int64_t{gridDim.x} * kThreads * V) {
    Pack<float, V> as = load<V>(average + i);
    const Pack<float, V> ps = load<V>(master + i);
    for (int k = 0; k < V; ++k) as.at[k] = keep * as.at[k] + take * ps.at[k];
    store<V>(average + i, as);
  }
}

}  // namespace

void moving_average(Cuda cuda, const StepState* state, float* average, const float* master, double decay,
                    int64_t n) {
  if (n == 0) return;
  with_lanes<float>(n, {average, master}, [&]<int V>(Lanes<V>) {
    const int64_t blocks = (n - 1) / (kThreads * V) + 1;
    launch<moving_average_kernel<V>>(std::min<int64_t>(blocks, 65535), kThreads, 0, cuda.stream, state,
                                     average, master, static_cast<float>(decay),
                                     static_cast<float>(1 - decay), n);
  });
}

template <class T>
void adamw(Cuda cuda, AdamWRule rule, StepState* state, const float* loss, float* master, T* copy, float* m, float* v,
           const float* gradient, int64_t n, int64_t decayed) {
  launch<adamw_prepare_kernel>(1, 1, 0, cuda.stream, rule, state, loss);
  if (n == 0) return;
  const auto run = [&]<int V>(Lanes<V>) {
    const int64_t blocks = (n - 1) / (kThreads * V) + 1;
    launch<adamw_kernel<T, V>>(std::min<int64_t>(blocks, 65535), kThreads, 0, cuda.stream, state, master,
                               copy, m, v, gradient, n, decayed);
  };
  const float* const floats[] = {master, m, v, gradient};
  const bool packed = in_packs<float>(n, {floats[0], floats[1], floats[2], floats[3]}) &&
                      reinterpret_cast<uintptr_t>(copy) % (4 * sizeof(T)) == 0;
  if (packed) run(Lanes<4>{});
  else run(Lanes<1>{});
}

#define QFM_INSTANTIATE(T)                                                                                       \
  template void adamw(Cuda, AdamWRule, StepState*, const float*, float*, T*, float*, float*, const float*, int64_t, \
                      int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
