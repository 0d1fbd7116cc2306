// How far the scores are from people's: beta-NLL (Seitzer et al. 2022, published) of a Gaussian around the score with the
// head's variance, over the rows that people scored, times --w-nll (reconstruction). The score keeps its own loss
// (regression.cpp); with beta 0.5 its gradient here is d / sigma, of the size of SmoothL1's, times the weight.
#include "layers/loss.h"
#include "layers/pointwise.h"
#include "layers/shape.h"
#include "train/objectives/objective.h"

namespace qfm {
namespace {

class Uncertainty : public Objective {
 public:
  explicit Uncertainty(const ObjectiveContext& context)
      : beta_(context.options.number("nll-beta")), accumulation_(acc_of(context.compute)) {
    weight = context.options.number("w-nll");
  }
  std::string name() const override { return "uncertainty"; }

  void plan(int64_t, int64_t labelled, int64_t) override { labelled_ = labelled; }

  Var operator()(const Step& step) override {
    if (labelled_ == 0) return {};
    const Var log_variance = cast(step.out.scores.log_variance, accumulation_);
    return beta_nll(slice(step.score, 0, 0, labelled_), slice(log_variance, 0, 0, labelled_),
                    step.labels.rows(0, labelled_), beta_);
  }

 private:
  const double beta_;
  const DType accumulation_;
  int64_t labelled_ = 0;
};

}  // namespace

ObjectiveKind uncertainty() {
  return {{{"w-nll", 0.05, "with --calibrate: weight of the likelihood that the variance is learnt from", {}, 0},
           {"nll-beta", 0.5, "with --calibrate: 0 weights photos by their certainty, 1 evenly", {}, 0, 1}},
          [](const ObjectiveContext& context, const Objectives&) -> std::unique_ptr<Objective> {
            if (!context.model.config.head->gives_variance() || context.options.number("w-nll") == 0) return nullptr;
            return std::make_unique<Uncertainty>(context);
          }};
}

}  // namespace qfm
