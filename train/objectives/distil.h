// The teachers of a run (models/METHOD.md 6, our reconstruction): of features, and the averaged student.
// Training only.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "layers/linear.h"
#include "models/checkpoint.h"
#include "train/optim/optimizer.h"

namespace qfm {

struct DistilOptions {
  std::string teacher;    // whose features are learnt; empty: those of the averaged student
  double ema = 0;         // decay of the averaged student; 0: there is none
  double w_features = 0;  // of the feature term within L_distil; 0: features are not learnt
  uint64_t seed = 0;
};

// Feature teacher: the averaged student (exponential moving average, "mean teacher") where there is one, else
// the checkpoint. Where its features are wider or narrower, a linear map of the student's stands between: it
// is trained beside the student by an optimiser of its own (clipped by its own norm) and belongs to no
// checkpoint.
class Distillation {
 public:
  // Keeps a reference to the student; info: what the student's pixels are like. Throws Error for a teacher
  // that takes other crops or colours, or that cannot be read.
  Distillation(const QfmIqm& student, const ModelInfo& info, const DistilOptions& options,
               const AdamWRule& rule);

  double w_features() const { return options_.w_features; }
  // Mean over the batch of 1 - cos(map(mean_n P~_n), mean_n P~_n of the teacher). images as the student got
  // them.
  Var feature_loss(const Tensor& images, const QfmIqm::Output& student) const;
  // The map's parameters and optimiser, null where the widths are equal.
  ParamSet* map_params() { return map_ ? &map_->params : nullptr; }
  Optimizer* map_optimizer() { return map_ ? &map_->optimizer : nullptr; }

  // average = decay average + (1 - decay) student: after each update of the student, whose state on CUDA
  // (Optimizer::state) says whether it was made.
  void update_ema(const StepState* updated = nullptr);
  const QfmIqm* averaged() const { return averaged_.get(); }

  // Tensors that are to be saved, and read back in place; then restored(updates done).
  NamedTensors state() const;
  void restored(int64_t steps);

 private:
  struct Map {
    Map(int64_t from, int64_t to, const ParamSet& student, const DistilOptions& options,
        const AdamWRule& rule);
    ParamSet params;
    Linear linear;
    Optimizer optimizer;
  };
  static ParamSet& allocated(ParamSet& params, const ParamSet& like);

  const QfmIqm& student_;
  const DistilOptions options_;
  std::unique_ptr<QfmIqm> averaged_;
  LoadedModel teacher_;
  const QfmIqm* feature_teacher_ = nullptr;
  std::unique_ptr<Map> map_;
};

}  // namespace qfm
