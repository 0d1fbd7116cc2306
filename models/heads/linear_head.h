// A linear read-out of the pooled features: score = head.weight . pooled + head.bias.
#pragma once
#include <memory>
#include <string>

#include "layers/linear.h"
#include "models/head.h"

namespace qfm {

struct LinearHeadConfig : HeadConfig {
  std::string json() const override { return R"({"type":"linear"})"; }
  int64_t members() const override { return 1; }
  double forward_flops(const FeatureShape& features) const override { return 2.0 * static_cast<double>(features.width); }
  std::unique_ptr<Head> make(const Scope& scope, const FeatureShape& features) const override;
};

struct LinearHead : Head {
  LinearHead(const Scope& scope, const FeatureShape& features);
  Scores operator()(const Features& features) const override;  // one member; its token is the pooled vector

  Linear head;
};

}  // namespace qfm
