// Patch embedding by cuDNN, in builds that know it: a convolution whose stride is its size, instead of
// a permutation and a matrix product. It writes no rows of patches, so it is for inference: a weight gradient
// needs them.
#pragma once
#include <cstdint>
#include <string>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

struct PatchShape {
  int64_t batch, channels, height, width, patch;  // height and width are multiples of patch
  int64_t tokens() const { return (height / patch) * (width / patch); }
  int64_t cols() const { return channels * patch * patch; }
};

}  // namespace qfm

namespace qfm::cudnn {

// y (batch, tokens, width) = images (batch, channels, height, width) * w (width, channels, patch, patch) + b
// (width), if the policy table (kernels/vendor/kernel_policy.h) names cuDNN; without a table, and for all types but
// BF16, it does not. False: a permutation and a product are to serve.
template <class T>
bool patch_embed(Cuda, const PatchShape&, int64_t, T*, const T*, const T*, const T*) {
  return false;
}

#ifdef QFM_WITH_CUDNN
bool patch_embed(Cuda, const PatchShape& shape, int64_t width, bf16* y, const bf16* images, const bf16* w,
                 const bf16* b);
// The same whatever the table.
bool patch_embed_by(Cuda, const PatchShape& shape, int64_t width, bf16* y, const bf16* images, const bf16* w,
                    const bf16* b);

// cuDNN's deterministic suggestions for a device described by JSON; no GPU is needed. Throws Error
// where it refuses.
size_t build_patch_embed(const PatchShape& shape, int64_t width, const std::string& device_json);
#endif

}  // namespace qfm::cudnn
