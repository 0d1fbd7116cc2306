#include "train/objectives/consistency.h"

#include "layers/noise.h"
#include "layers/pointwise.h"
#include "layers/qfm_losses.h"
#include "train/objectives/matching_memory.h"
#include "train/objectives/photo_memory.h"

namespace qfm {
namespace {

bool is_v2(const Options& options) { return options.text("method") == "v2"; }

std::unique_ptr<NoiseSource> source_of(const ObjectiveContext& context) {
  const Options& o = context.options;
  if (is_v2(o)) return std::make_unique<PhotoMemory>(context);
  const MatchOptions options{match_mode(o.text("match")),
                             o.whole("memory"),
                             {static_cast<float>(o.number("tau-q")), static_cast<float>(o.number("tau-s"))},
                             o.number("a-max"),
                             o.whole("adversarial"),
                             context.seed};
  const FeatureShape shape = context.model.config.features();
  return std::make_unique<MatchingMemory>(options, context.batch, shape.tokens(), shape.width,
                                          context.compute, context.device, context.references);
}

Var full(const Var& x) { return cast(x, acc_of(x.value.dtype())); }

Scores perturbed(const Step& step, const Perturbation& noise) {
  Features features = step.out.features;
  if (!noise.tokens.empty()) features.tokens = perturb(features.tokens, noise.tokens, noise.factor);
  if (!noise.pooled.empty()) features.pooled = perturb(features.pooled, noise.pooled, noise.factor);
  return (*step.model.head)(features);
}

Tensor number_of_candidate(const Tensor& like_this, int64_t k) {
  return map("candidate", fn::Affine{0, static_cast<double>(k)},
             Tensor::zeros(like_this.shape(), like_this.dtype(), like_this.device()));
}

}  // namespace

Tensor is_candidate(const Tensor& which, int64_t k) {
  return map("candidate", fn::Equal{}, which, number_of_candidate(which, k));
}

Consistency::Consistency(const ObjectiveContext& context)
    : w_feat_(is_v2(context.options) ? 0 : context.options.number("w-feat")),
      to_label_(!is_v2(context.options) || context.options.text("cons-target") == "label"),
      source_(source_of(context)) {
  weight = context.options.number("w-cons");
}

Var Consistency::operator()(const Step& step) {
  noise_.reset();
  const int64_t candidates = source_->find(step, phase_);
  if (candidates == 0) {
    source_->observe(step, {}, nullptr);
    return {};
  }
  const Tensor which = worst_of(step, candidates);
  noise_ = source_->candidate(which);
  const Scores moved = perturbed(step, *noise_);
  const Var score = full(moved.score);
  source_->observe(step, which, &score.value);
  const Var loss = weighted_smooth_l1(score, to_label_ ? step.labels : step.score.value, noise_->weight);
  if (w_feat_ == 0) return loss;
  return weighted_sum(
      {{loss, 1}, {cosine_distance(moved.tokens, step.out.scores.tokens.value, noise_->weight), w_feat_}});
}

// (B): the number of the candidate that moves the score most, of equal ones the first.
Tensor Consistency::worst_of(const Step& step, int64_t candidates) const {
  const NoGrad trying;
  const Tensor worst = Tensor::zeros(step.score.shape(), step.score.value.dtype(), step.score.value.device());
  if (candidates == 1) return worst;
  const Tensor change = Tensor::zeros(worst.shape(), worst.dtype(), worst.device());
  for (int64_t k = 0; k < candidates; ++k) {
    const Tensor trial = number_of_candidate(worst, k);
    const Scores moved = perturbed(step, source_->candidate(trial));
    keep_worst_case(worst, change, trial, full(moved.score).value, step.score.value);
  }
  return worst;
}

void check_method(const Options& options) {
  const bool v2 = is_v2(options);
  const auto refuse = [&](std::initializer_list<const char*> keys, const char* method) {
    for (const char* key : keys) QFM_CHECK(options.at_standard(key), "--", key, " is of --method ", method);
  };
  if (v2) refuse({"memory", "tau-s", "a-max", "w-feat"}, "v1");
  else refuse({"semantics", "shift", "noise-on", "cons-target"}, "v2");
}

ObjectiveKind consistency() {
  return {
      {{"method",
        std::string("v1"),
        "which reconstruction of matching: models/METHOD.md 4 or 9",
        {"v1", "v2"}},
       {"match", std::string("off"), "semantic noise matching", {"matched", "random", "gaussian", "off"}},
       {"adversarial",
        int64_t{0},
        "strengths (v1) or partners (v2) tried for the one that moves the score most, or off",
        {},
        0,
        64,
        true},
       {"memory", int64_t{4}, "v1: batches kept for matching", {}, 1, 1024},
       {"tau-q", 0.05, "scores (0-1) at most this far apart match", {}, 0, 1},
       {"tau-s", 0.7, "v1: semantics at most this similar match", {}, -1, 1},
       {"a-max", 0.5, "v1: largest strength of noise", {}, 0, 100},
       {"w-cons", 1.0, "weight of the consistency loss", {}, 0},
       {"w-feat", 0.5, "v1: weight of its feature term", {}, 0},
       {"semantics", std::string(),
        "v2: weights, never trained, whose class token says what a photo shows (default: --init, of others)"},
       {"shift",
        5.0,
        "v2: points (0-100) that noise is to move the score by in the mean, when it begins",
        {},
        0.01,
        100},
       {"noise-on", std::string("both"), "v2: what noise is added to", {"both", "tokens", "class"}},
       {"cons-target",
        std::string("output"),
        "v2: what the score under noise is to be, the clean output or the label",
        {"output", "label"}}},
      [](const ObjectiveContext& context, const Objectives&) -> std::unique_ptr<Objective> {
        if (context.options.text("match") == "off") return nullptr;
        return std::make_unique<Consistency>(context);
      }};
}

}  // namespace qfm
