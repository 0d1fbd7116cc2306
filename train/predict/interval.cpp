#include "train/predict/interval.h"

#include <algorithm>

#include "engine/base/error.h"

namespace qfm {

Interval interval_around(const Prediction& prediction, const ModelInfo& info, double factor) {
  QFM_CHECK(prediction.deviation, "interval: the prediction has no deviation");
  const double score = prediction.score, half = factor * *prediction.deviation;
  const double low = info.labels_scaled ? 0 : info.label_low, high = info.labels_scaled ? 100 : info.label_high;
  return {std::min(score, std::clamp(score - half, low, high)), std::max(score, std::clamp(score + half, low, high))};
}

std::optional<double> interval_factor(const ModelInfo& info, double p) {
  QFM_CHECK(p > 0 && p < 1, p, " is not inside 0..1");
  if (!info.calibration) return std::nullopt;
  const auto factor = info.calibration->factor(p);
  const size_t n = info.calibration->ratios().size();
  QFM_CHECK(factor, "the model was calibrated with ", n, " photos, which reach at most ",
            static_cast<double>(n) / static_cast<double>(n + 1));
  return factor;
}

}  // namespace qfm
