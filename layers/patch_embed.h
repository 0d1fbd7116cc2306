// Patch embedding: a convolution whose stride is its size, as a permutation and one matrix product.
#pragma once
#include "layers/linear.h"

namespace qfm {

// images (B, C, H, W), w (D, C, p, p), b (D) -> (B, N, D), N = (H/p)(W/p), tokens row by row.
// Throws Error when H or W is not a multiple of p.
//   y = patches of x, as rows, times w^T + b; dx = dy w put back in its places, dw = dy^T patches, db = sum of dy
Var patch_embed(const Var& images, const Var& w, const Var& b);

struct PatchEmbed {
  PatchEmbed(const Scope& scope, int64_t channels, int64_t patch, int64_t width)
      : weight(scope.weight("weight", {width, channels, patch, patch}, trunc_normal(0.02))),
        bias(scope.vector("bias", {width}, constant(0))) {}
  Var operator()(const Var& images) const { return patch_embed(images, weight, bias); }

  Param weight, bias;
};

}  // namespace qfm
