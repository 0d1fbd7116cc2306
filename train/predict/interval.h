// The interval around a score that people's opinion lies in with a given probability (models/calibration.h).
#pragma once
#include <optional>

#include "models/checkpoint.h"
#include "train/metrics/metrics.h"
#include "train/predict/predict.h"

namespace qfm {

// score +- factor deviations in the model's output unit, cut to the declared range of the labels but never to less than the
// score itself.
Interval interval_around(const Prediction& prediction, const ModelInfo& info, double factor);

// Half the width in deviations for probability p; nullopt for a model without calibration. Throws Error where it was
// calibrated with too few photos for p, and for p outside 0..1.
std::optional<double> interval_factor(const ModelInfo& info, double p);

}  // namespace qfm
