// The optional contrast of features by score (models/METHOD.md 8, our reconstruction): pooled features are drawn to
// those of images of similar score.
#include "layers/qfm_losses.h"
#include "layers/reduce.h"
#include "train/objectives/objective.h"

namespace qfm {
namespace {

// score_contrast (layers/qfm_losses.h) of mean_n P~_n; similar: scores at most --tau-q apart.
class ScoreContrast : public Objective {
 public:
  explicit ScoreContrast(const ObjectiveContext& context)
      : tau_(context.options.number("tau-q")), accumulation_(acc_of(context.compute)) {
    weight = context.options.number("w-contrast");
  }
  std::string name() const override { return "contrast"; }

  void prepare(const Batch& batch, uint32_t, HostInputs& inputs) const override {
    std::vector<double> scores;
    for (float label : batch.labels.span<float>()) scores.push_back(label / 100.0);
    inputs.add("contrast.targets", contrast_targets(scores, tau_).to(accumulation_));
  }

  Var operator()(const Step& step) override {
    constexpr double temperature = 0.1;
    return score_contrast(mean(step.out.features.tokens, {1}), step.inputs.at("contrast.targets"), temperature);
  }

 private:
  const double tau_;
  const DType accumulation_;
};

}  // namespace

ObjectiveKind score_contrast_objective() {
  return {{{"w-contrast", 0.0, "weight of the contrast of features by score (optional term)", {}, 0}},
          [](const ObjectiveContext& context, const Objectives&) -> std::unique_ptr<Objective> {
            if (context.options.number("w-contrast") == 0) return nullptr;
            return std::make_unique<ScoreContrast>(context);
          }};
}

}  // namespace qfm
