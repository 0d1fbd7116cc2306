// --average: the mean of a model's weights over the last updates of a run (Izmailov et al. 2018, with the schedule's own
// falling rates in place of a cyclic one).
#pragma once
#include <cstdint>
#include <memory>

#include "models/model.h"

namespace qfm {

class TailAverage {
 public:
  // The last `share` of `steps` updates, at least one; share 0: no average. Keeps a reference to model.
  TailAverage(const Model& model, double share, int64_t steps, Device device, DType compute);

  // Update number `step`, from 1, is done.
  void updated(int64_t step);
  // What the run gives after `step` updates: the mean, or before it has begun the model itself.
  const Model& model(int64_t step) const { return step > before_ ? *mean_ : model_; }

  // Read back in place; then restored().
  NamedTensors state() const;
  void restored();

 private:
  const Model& model_;
  int64_t before_;  // updates before the first that counts
  std::unique_ptr<Model> mean_;
};

}  // namespace qfm
