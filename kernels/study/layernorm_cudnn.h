// Layer normalisation by cuDNN, in builds that know it: row 0 of the ladder, used nowhere else. BF16 only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm::cudnn {

#ifdef QFM_WITH_CUDNN
// As layernorm_forward of kernels/norm/layernorm.h. False where the library is absent or refuses the sizes.
bool layernorm_forward_by(Cuda, int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd, const bf16* x,
                          const bf16* w, const bf16* b, double eps);

// cuDNN's deterministic suggestions for a device described by JSON; no GPU is needed. Throws Error
// where it refuses.
size_t build_layernorm(int64_t rows, int64_t cols, const std::string& device_json);
#else
inline bool layernorm_forward_by(Cuda, int64_t, int64_t, bf16*, float*, float*, const bf16*, const bf16*,
                                 const bf16*, double) {
  return false;
}
#endif

}  // namespace qfm::cudnn
