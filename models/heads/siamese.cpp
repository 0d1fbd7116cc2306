#include "models/heads/siamese.h"

#include "layers/pointwise.h"
#include "layers/reduce.h"
#include "layers/shape.h"

namespace qfm {
Var difference_of_halves(const Var& x) {
  const int64_t rows = x.dim(0);
  QFM_CHECK(rows % 2 == 0, "siamese: ", rows, " rows are no pairs");
  return slice(x, 0, rows / 2, rows) - slice(x, 0, 0, rows / 2);
}

SiameseHead::SiameseHead(const Scope& scope, const FeatureShape& features)
    : fc1(scope / "siamese" / "fc1", features.width, features.width),
      fc2(scope / "siamese" / "fc2", features.width, 1) {}

Scores SiameseHead::operator()(const Features& features) const {
  const Var d = difference_of_halves(features.tokens);
  const int64_t b = d.dim(0), width = d.dim(2);
  const Var score = mean(fc2(gelu(fc1(d))), {1});  // (B, 1)
  return {reshape(score, {b}), score, reshape(mean(d, {1}), {b, 1, width})};
}

double SiameseConfig::forward_flops(const FeatureShape& features) const {
  const auto d = static_cast<double>(features.width), n = static_cast<double>(features.tokens());
  return n * (d * d + d);
}

std::unique_ptr<Head> SiameseConfig::make(const Scope& scope, const FeatureShape& features) const {
  return std::make_unique<SiameseHead>(scope, features);
}

}  // namespace qfm
