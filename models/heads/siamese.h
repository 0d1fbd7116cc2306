// Full reference: one score for each pair of a reference and its distortion, from the difference of their features.
#pragma once
#include <memory>
#include <string>

#include "layers/linear.h"
#include "models/head.h"

namespace qfm {

// x (2B, ...): its second half minus its first (B, ...). Throws Error for an odd number of rows.
Var difference_of_halves(const Var& x);

struct SiameseConfig : HeadConfig {
  std::string json() const override { return R"({"type":"siamese"})"; }
  int64_t views() const override { return 2; }
  int64_t members() const override { return 1; }
  double forward_flops(const FeatureShape& features) const override;  // of an image: half of a pair
  std::unique_ptr<Head> make(const Scope& scope, const FeatureShape& features) const override;
};

struct SiameseHead : Head {
  SiameseHead(const Scope& scope, const FeatureShape& features);
  // tokens (2B, N, D), the B references in front: d = tokens of the distorted - tokens of the reference;
  //   score = mean over the tokens of fc2(gelu(fc1(d)))
  // (B) scores, one member each; its token is the mean d. Reconstruction: the place-by-place differences of LPIPS, with
  // a learnt function in the place of its square. Throws Error for an odd number of rows.
  Scores operator()(const Features& features) const override;

  Linear fc1, fc2;  // D -> D, D -> 1
};

}  // namespace qfm
