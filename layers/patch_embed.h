// Patch embedding: a convolution whose stride is its size, as patchify and one matrix product.
#pragma once
#include <string>

#include "layers/linear.h"

namespace qfm {

// images (B, C, H, W), w (D, C, p, p), b (D) -> (B, N, D), N = (H/p)(W/p), tokens row by row.
// Throws Error when H or W is not a multiple of p.
Var patch_embed(const Var& images, const Var& w, const Var& b, const PackedWeight* packed = nullptr);

struct PatchEmbed {
  PatchEmbed(ParamSet& params, const std::string& name, int64_t channels, int64_t patch, int64_t width)
      : weight(params.add(name + ".weight", {width, channels, patch, patch}, true)),
        bias(params.add(name + ".bias", {width}, false)) {}
  Var operator()(const Var& images) const {
    return patch_embed(images, weight, bias, packed.data.empty() ? nullptr : &packed);
  }
  void freeze() {
    const Tensor& w = weight.value();
    packed = PackedWeight::of(w.reshape({w.dim(0), w.numel() / w.dim(0)}));
  }

  Param weight, bias;
  PackedWeight packed;
};

}  // namespace qfm
