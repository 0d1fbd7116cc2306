// The feature term of distillation and the averaged student (models/METHOD.md 6, our reconstruction).
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "layers/linear.h"
#include "train/objectives/objective.h"

namespace qfm {

// mean over the batch of  1 - cos(projector(mean_n P~_n), mean_n P~_n of the teacher).
// The teacher is the averaged student (exponential moving average, "mean teacher") where --ema is given, else the
// checkpoint --teacher. Where its features are wider or narrower, a linear projector of the student's is trained with
// the model; it belongs to no checkpoint. With --ema and no weight there is an averaged student and no loss.
class FeatureDistillation : public Objective {
 public:
  // Throws Error for a teacher that takes other crops or colours, or that cannot be read.
  explicit FeatureDistillation(const ObjectiveContext& context);
  std::string name() const override { return "features"; }
  Var operator()(const Step& step) override;
  void started() override;
  void updated(const StepState* update) override;
  NamedTensors state() const override;
  void restored() override;

  const Model* averaged() const { return averaged_.get(); }  // null without --ema

 private:
  const Model& student_;
  const double ema_;
  std::unique_ptr<Model> averaged_;
  LoadedModel teacher_;
  const Model* features_of_ = nullptr;  // null: no loss
  std::optional<Linear> projector_;
};

}  // namespace qfm
