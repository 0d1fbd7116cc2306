#include "models/heads/siamese.h"

#include "engine/dispatch.h"
#include "kernels/pointwise/elementwise.h"
#include "layers/activations.h"
#include "layers/tokens.h"

namespace qfm {
namespace {

// y = factor x, and y = a + b, without history.
void scale_to(const Tensor& y, const Tensor& x, double factor) {
  dispatch({"difference_of_halves"}, x, [&](auto dev, auto t) {
    using T = decltype(t);
    scale<T>(dev, ptr<T>(y), ptr<const T>(x), factor, x.numel());
  });
}
void add_to(const Tensor& y, const Tensor& a, const Tensor& b) {
  dispatch({"difference_of_halves"}, y, [&](auto dev, auto t) {
    using T = decltype(t);
    add<T>(dev, ptr<T>(y), ptr<const T>(a), ptr<const T>(b), y.numel());
  });
}

}  // namespace

Var difference_of_halves(const Var& x) {
  const int64_t rows = x.dim(0), b = rows / 2;
  QFM_CHECK(rows % 2 == 0, "siamese: ", rows, " rows are no pairs");
  const Tensor second = x.value.rows(b, rows), y = like(second);
  scale_to(y, x.value.rows(0, b), -1);
  add_to(y, y, second);
  return record("difference_of_halves", y, {x}, [b, rows, shape = x.shape()](const Tensor& dy) -> Grads {
    const Tensor dx = like(dy, shape);
    scale_to(dx.rows(0, b), dy, -1);
    dx.rows(b, rows).copy_from(dy);
    return {dx};
  });
}

SiameseHead::SiameseHead(const Scope& scope, const FeatureShape& features)
    : fc1(scope / "siamese" / "fc1", features.width, features.width),
      fc2(scope / "siamese" / "fc2", features.width, 1) {}

Scores SiameseHead::operator()(const Features& features) const {
  const Var d = difference_of_halves(features.tokens);
  const int64_t b = d.dim(0), width = d.dim(2);
  const Var score = mean_tokens(fc2(gelu(fc1(d))));  // (B, 1)
  return {reshape(score, {b}), score, reshape(mean_tokens(d), {b, 1, width})};
}

double SiameseConfig::forward_flops(const FeatureShape& features) const {
  const auto d = static_cast<double>(features.width), n = static_cast<double>(features.tokens());
  return n * (d * d + d);
}

std::unique_ptr<Head> SiameseConfig::make(const Scope& scope, const FeatureShape& features) const {
  return std::make_unique<SiameseHead>(scope, features);
}

}  // namespace qfm
