#include "layers/qfm_losses.h"

#include <cmath>

#include "engine/dispatch.h"
#include "kernels/loss/qfm_losses.h"
#include "layers/pointwise.h"
#include "layers/loss.h"
#include "layers/similarity.h"

namespace qfm {

Var weighted_smooth_l1(const Var& prediction, const Tensor& target, const Tensor& weight, double beta) {
  const Tensor& p = prediction.value;
  QFM_CHECK(p.shape() == target.shape() && p.shape() == weight.shape() && p.rank() == 1,
            "weighted_smooth_l1: prediction is ", p.shape(), ", target ", target.shape(), ", weight ",
            weight.shape());
  const Tensor loss = acc_like(p, {1}), grad = like(p);
  dispatch({"weighted_smooth_l1", 0, 4.0 * static_cast<double>(p.bytes())}, p, [&](auto dev, auto t) {
    using T = decltype(t);
    weighted_smooth_l1<T>(dev, ptr<acc<T>>(loss), ptr<T>(grad), ptr<const T>(p), ptr<const T>(target),
                          ptr<const acc<T>>(weight), beta, p.numel());
  });
  return record_loss("weighted_smooth_l1", loss, prediction, grad);
}

Var cosine_distance(const Var& a, const Tensor& c, const Tensor& weight, double eps) {
  const Tensor& x = a.value;
  QFM_CHECK((x.rank() == 2 || x.rank() == 3) && x.shape() == c.shape() && weight.shape() == Shape{x.dim(0)},
            "cosine_distance: a is ", x.shape(), ", c ", c.shape(), ", weight ", weight.shape());
  const Tensor loss = acc_like(x, {1}), grad = like(x);
  dispatch({"cosine_distance", 0, 3.0 * static_cast<double>(x.bytes())}, x, [&](auto dev, auto t) {
    using T = decltype(t);
    cosine_distance<T>(dev, ptr<acc<T>>(loss), ptr<T>(grad), ptr<const T>(x), ptr<const T>(c),
                       ptr<const acc<T>>(weight), x.dim(0), x.rank() == 3 ? x.dim(1) : 1, x.dim(-1), eps);
  });
  return record_loss("cosine_distance", loss, a, grad);
}

Var selection_loss(const Var& gates, const Tensor& variance) {
  const Tensor& g = gates.value;
  QFM_CHECK(g.rank() == 2 && variance.shape() == Shape{g.dim(1)}, "selection_loss: gates are ", g.shape(),
            ", variances ", variance.shape());
  const Tensor loss = acc_like(g, {1}), grad = like(g);
  dispatch({"selection_loss", 0, 2.0 * static_cast<double>(g.bytes())}, g, [&](auto dev, auto t) {
    using T = decltype(t);
    selection_loss<T>(dev, ptr<acc<T>>(loss), ptr<T>(grad), ptr<const T>(g), ptr<const acc<T>>(variance),
                      g.dim(0), g.dim(1));
  });
  return record_loss("selection_loss", loss, gates, grad);
}

namespace {

// targets (n, n), 0 on the diagonal.
Var cross_entropy_of_similarities(const char* name, const Var& h, const Tensor& targets, double temperature) {
  QFM_CHECK(h.value.rank() == 2 && targets.shape() == (Shape{h.dim(0), h.dim(0)}), name, ": h is ", h.shape(),
            ", targets ", targets.shape());
  const Var u = l2norm(h);
  const int64_t n = u.dim(0);
  const Tensor target = targets.to(acc_of(u.value.dtype())).to(u.value.device());
  const Tensor loss = acc_like(u.value, {1}), grad = like(u.value), work = acc_like(u.value, {n * (n + 1)});
  const Op cost{name, 4 * static_cast<double>(n * n * u.dim(1)),
                static_cast<double>(2 * u.value.bytes() + target.bytes())};
  dispatch(cost, u.value, [&](auto dev, auto t) {
    using T = decltype(t);
    using A = acc<T>;
    similarity_cross_entropy<T>(dev, ptr<A>(loss), ptr<T>(grad), ptr<A>(work), ptr<const T>(u.value),
                                ptr<const A>(target), temperature, n, u.dim(1));
  });
  return record_loss(name, loss, u, grad);
}

}  // namespace

Var ntxent(const Var& h, const std::vector<int64_t>& pair, double temperature) {
  const size_t n = pair.size();
  QFM_CHECK(h.value.rank() == 2 && h.dim(0) == static_cast<int64_t>(n), "ntxent: h is ", h.shape(), ", ", n,
            " pairs");
  std::vector<double> targets(n * n);
  for (size_t i = 0; i < n; ++i) {
    const auto j = static_cast<size_t>(pair[i]);
    QFM_CHECK(j < n && j != i, "ntxent: row ", i, " is paired with ", pair[i]);
    targets[i * n + j] = 1 / static_cast<double>(n);
  }
  const auto rows = static_cast<int64_t>(n);
  return cross_entropy_of_similarities("ntxent", h, Tensor::from(targets, {rows, rows}), temperature);
}

Var score_contrast(const Var& h, const Tensor& targets, double temperature) {
  return cross_entropy_of_similarities("score_contrast", h, targets, temperature);
}

Tensor contrast_targets(const std::vector<double>& scores, double tau) {
  const size_t n = scores.size();
  std::vector<double> targets(n * n), positives(n);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j)
      if (i != j && std::fabs(scores[i] - scores[j]) <= tau) targets[i * n + j] = 1, positives[i] += 1;
  double rows = 0;
  for (double p : positives) rows += p > 0;
  for (size_t i = 0; i < n * n; ++i)
    if (targets[i] > 0) targets[i] = 1 / (positives[i / n] * rows);
  return Tensor::from(targets, {static_cast<int64_t>(n), static_cast<int64_t>(n)});
}

Var weighted_sum(const std::vector<std::pair<Var, double>>& losses) {
  QFM_CHECK(!losses.empty(), "weighted_sum: no losses");
  if (losses.size() == 1 && losses[0].second == 1) return losses[0].first;
  Var sum;
  for (const auto& [loss, weight] : losses) {
    const Var part = loss * weight;
    sum = sum.value.empty() ? part : sum + part;
  }
  return sum;
}

}  // namespace qfm
