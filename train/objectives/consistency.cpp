#include "train/objectives/consistency.h"

#include "layers/pointwise.h"
#include "layers/noise.h"
#include "layers/qfm_losses.h"

namespace qfm {
namespace {

MatchOptions match_options(const ObjectiveContext& context) {
  const Options& o = context.options;
  return {match_mode(o.text("match")), o.whole("memory"),
          {static_cast<float>(o.number("tau-q")), static_cast<float>(o.number("tau-s"))},
          o.number("a-max"), o.whole("adversarial"), context.seed};
}

Var full(const Var& x) { return cast(x, acc_of(x.value.dtype())); }

Scores perturbed(const Step& step, const SemanticNoise& noise, const Tensor& factor) {
  Features features = step.out.features;
  features.tokens = perturb(features.tokens, noise.tokens, factor);
  return (*step.model.head)(features);
}

}  // namespace

Consistency::Consistency(const ObjectiveContext& context)
    : w_feat_(context.options.number("w-feat")),
      references_(context.references),
      memory_(match_options(context), context.batch, context.model.config.features().tokens(),
              context.model.config.features().width, context.compute, context.device) {
  weight = context.options.number("w-cons");
}

MatchBatch Consistency::keys_of(const Batch& batch) const {
  MatchBatch keys;
  const auto labels = batch.labels.span<float>();
  for (size_t i = 0; i < batch.photos.size(); ++i) {
    const auto photo = static_cast<size_t>(batch.photos[i]);
    keys.score.push_back(labels[i] / 100);
    keys.image.push_back(batch.photos[i]);
    keys.reference.push_back(photo < references_.size() ? references_[photo] : -1);
    keys.sample.push_back(batch.samples[i]);
  }
  return keys;
}

void Consistency::plan(int64_t, int64_t, int64_t phase) { searching_ = phase > 0; }
void Consistency::prepare(const Batch& batch, uint32_t epoch, HostInputs& inputs) const {
  memory_.prepare(keys_of(batch), epoch, inputs);
}
void Consistency::finished(const Batch& batch) { memory_.enqueue(keys_of(batch)); }

Var Consistency::operator()(const Step& step) {
  noise_ = memory_.match_and_enqueue(step.out.features.tokens.value, step.inputs, searching_);
  if (!noise_) return {};
  factor_ = factor_of(step);
  const Scores moved = perturbed(step, *noise_, factor_);
  return weighted_sum({{weighted_smooth_l1(full(moved.score), step.labels, noise_->weight), 1},
                       {cosine_distance(moved.tokens, step.out.scores.tokens.value, noise_->weight), w_feat_}});
}

// The factor of the one strength, or of the candidate that moves the score most.
Tensor Consistency::factor_of(const Step& step) const {
  const auto factor = [&](const Tensor& strength) {
    return noise_factor(strength, noise_->norm, noise_->noise_norm);
  };
  if (noise_->strengths.size() == 1) return factor(noise_->strengths[0]);
  const NoGrad trying;
  const Tensor worst = noise_->strengths[0].clone(),
               change = Tensor::zeros(worst.shape(), worst.dtype(), worst.device());
  for (const Tensor& candidate : noise_->strengths)
    keep_worst_case(worst, change, candidate, full(perturbed(step, *noise_, factor(candidate)).score).value,
                    step.score.value);
  return factor(worst);
}

nlohmann::ordered_json Consistency::statistics() {
  const auto statistics = memory_.take_statistics();
  if (!statistics) return nullptr;
  const auto optional = [](const std::optional<double>& x) {
    return x ? nlohmann::ordered_json(*x) : nlohmann::ordered_json();
  };
  return {{"rate", statistics->rate},
          {"score_distance", optional(statistics->score_distance)},
          {"cosine", optional(statistics->cosine)}};
}

ObjectiveKind consistency() {
  return {{{"match", std::string("off"), "semantic noise matching", {"matched", "random", "gaussian", "off"}},
           {"adversarial", int64_t{0}, "strengths of noise tried, or off", {}, 0, 64, true},
           {"memory", int64_t{4}, "batches kept for matching", {}, 1, 1024},
           {"tau-q", 0.05, "scores (0-1) at most this far apart match", {}, 0, 1},
           {"tau-s", 0.7, "semantics at most this similar match", {}, -1, 1},
           {"a-max", 0.5, "largest strength of noise", {}, 0, 100},
           {"w-cons", 1.0, "weight of the consistency loss", {}, 0},
           {"w-feat", 0.5, "weight of its feature term", {}, 0}},
          [](const ObjectiveContext& context, const Objectives&) -> std::unique_ptr<Objective> {
            if (context.options.text("match") == "off") return nullptr;
            return std::make_unique<Consistency>(context);
          }};
}

}  // namespace qfm
