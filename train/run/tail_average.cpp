#include "train/run/tail_average.h"

#include <algorithm>
#include <cmath>

namespace qfm {

TailAverage::TailAverage(const Model& model, double share, int64_t steps, Device device, DType compute)
    : model_(model), before_(steps) {
  if (share == 0) return;
  before_ = std::min(steps - 1, static_cast<int64_t>(std::llround((1 - share) * static_cast<double>(steps))));
  mean_ = std::make_unique<Model>(model.config, device, compute, false);
  mean_->params.copy_from(model.params);
}

void TailAverage::updated(int64_t step) {
  if (step <= before_) return;
  const auto n = static_cast<double>(step - before_);
  if (n == 1) mean_->params.copy_from(model_.params);
  else mean_->params.average(model_.params, (n - 1) / n);
}

NamedTensors TailAverage::state() const {
  NamedTensors tensors;
  if (mean_)
    for (const auto& [name, tensor] : mean_->params.saved()) tensors.emplace_back("average." + name, tensor);
  return tensors;
}

void TailAverage::restored() {
  if (mean_) mean_->params.sync();
}

}  // namespace qfm
