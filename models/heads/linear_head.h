// A linear read-out of the pooled features: score = offset + scale (head.weight . pooled + head.bias).
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "layers/linear.h"
#include "models/head.h"
#include "models/heads/log_variance.h"

namespace qfm {

struct LinearHeadConfig : HeadConfig {
  double offset = 0, scale = 1;         // in the unit of the labels
  std::optional<double> log_variance{};  // LogVariance::base; without: none is given

  std::string json() const override;
  int64_t members() const override { return 1; }
  double forward_flops(const FeatureShape& features) const override { return 2.0 * static_cast<double>(features.width); }
  // AdamW moves a weight by at most the learning rate a step: a read-out that began at 0 would need thousands to reach
  // labels around 50. So it learns how far a photo is from the labels' mean, in their standard deviation.
  std::shared_ptr<const HeadConfig> for_labels(double mean, double deviation) const override;
  bool gives_variance() const override { return log_variance.has_value(); }
  std::shared_ptr<const HeadConfig> with_variance(double deviation) const override;
  std::unique_ptr<Head> make(const Scope& scope, const FeatureShape& features) const override;
};
// From what json() gives; without offset and scale: 0 and 1. Throws Error where a number is not finite or the scale not
// above 0.
LinearHeadConfig linear_head_from_json(const nlohmann::ordered_json& json);

struct LinearHead : Head {
  LinearHead(const Scope& scope, const LinearHeadConfig& config, const FeatureShape& features);
  Scores operator()(const Features& features) const override;  // one member; its token is the pooled vector

  const LinearHeadConfig config;
  Linear head;
  std::optional<LogVariance> log_variance;
};

}  // namespace qfm
