#include "models/heads/linear_head.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/base/error.h"
#include "layers/pointwise.h"
#include "layers/shape.h"

namespace qfm {

LinearHead::LinearHead(const Scope& scope, const LinearHeadConfig& c, const FeatureShape& features)
    : config(c), head(scope / "head", features.width, 1) {
  if (c.log_variance) log_variance.emplace(scope, *c.log_variance, features.width);
}

Scores LinearHead::operator()(const Features& features) const {
  const int64_t b = features.pooled.dim(0);
  const Var score = affine(head(features.pooled), config.scale, config.offset);  // (B, 1)
  const Var token = reshape(features.pooled, {b, 1, features.pooled.dim(1)});
  return {reshape(score, {b}), score, token, log_variance ? (*log_variance)(token) : Var()};
}

std::string LinearHeadConfig::json() const {
  nlohmann::ordered_json j{{"type", "linear"}};
  if (offset != 0 || scale != 1) j["offset"] = offset, j["scale"] = scale;
  if (log_variance) j["log_variance"] = *log_variance;
  return j.dump();
}

LinearHeadConfig linear_head_from_json(const nlohmann::ordered_json& j) {
  LinearHeadConfig c;
  c.offset = j.value("offset", 0.0), c.scale = j.value("scale", 1.0);
  QFM_CHECK(std::isfinite(c.offset), "linear head: its offset is ", c.offset);
  c.log_variance = log_variance_from_json(j);
  QFM_CHECK(std::isfinite(c.scale) && c.scale > 0, "linear head: its scale is ", c.scale);
  return c;
}

std::shared_ptr<const HeadConfig> LinearHeadConfig::for_labels(double mean, double deviation) const {
  auto fitted = std::make_shared<LinearHeadConfig>(*this);
  fitted->offset = mean, fitted->scale = deviation;
  return fitted;
}

std::shared_ptr<const HeadConfig> LinearHeadConfig::with_variance(double deviation) const {
  auto more = std::make_shared<LinearHeadConfig>(*this);
  more->log_variance = log_variance_of(deviation);
  return more;
}

std::unique_ptr<Head> LinearHeadConfig::make(const Scope& scope, const FeatureShape& features) const {
  return std::make_unique<LinearHead>(scope, *this, features);
}

}  // namespace qfm
