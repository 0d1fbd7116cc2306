#include "models/heads/linear_head.h"

#include "layers/shape.h"

namespace qfm {

LinearHead::LinearHead(const Scope& scope, const FeatureShape& features) : head(scope / "head", features.width, 1) {}

Scores LinearHead::operator()(const Features& features) const {
  const int64_t b = features.pooled.dim(0);
  const Var score = head(features.pooled);  // (B, 1)
  return {reshape(score, {b}), score, reshape(features.pooled, {b, 1, features.pooled.dim(1)})};
}

std::unique_ptr<Head> LinearHeadConfig::make(const Scope& scope, const FeatureShape& features) const {
  return std::make_unique<LinearHead>(scope, features);
}

}  // namespace qfm
