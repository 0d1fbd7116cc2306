// The orders in which host-CUDA runs threads. A correct kernel gives the same bits in all of them.
#pragma once
#ifdef QFM_CUDA_HOST
#include "engine/cuda/host/language.h"
#endif

namespace qfm::test {

// Calls f() under eight orders of blocks, warps and lanes; in every second one cp.async lands late. On a GPU,
// which has its own order, once.
template <class F>
void for_schedules(F&& f) {
#ifdef QFM_CUDA_HOST
  struct AtEnd {
    ~AtEnd() { host_cuda::set_seed(1); }
  } at_end;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    host_cuda::set_seed(seed);
    f();
  }
#else
  f();
#endif
}

}  // namespace qfm::test
