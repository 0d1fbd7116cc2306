// Predictions for a whole set of photos, decoded in the background.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/image/decode.h"
#include "train/metrics/metrics.h"
#include "train/predict/predict.h"

namespace qfm {

struct PhotoResult {
  std::optional<Prediction> prediction;
  std::string error;  // "PATH: reason" where there is none
};

struct EvaluateOptions {
  DecodeOptions decode;
  int workers = 1;  // threads that decode; 0: the caller does
  // After each photo, with the number done; false stops.
  std::function<bool(int64_t done)> progress = {};
};

// One result a photo, in the order of `paths`; fewer where progress returned false. A photo that cannot be decoded
// is a result with an error, not an exception.
std::vector<PhotoResult> predict_photos(const Predictor& predictor, const std::vector<std::string>& paths,
                                        const EvaluateOptions& options = {});

// Agreement of the predictions there are with labels[i] of the same unit. nullopt for fewer than three: any
// two agree.
std::optional<Agreement> agreement_with(const std::vector<PhotoResult>& results,
                                        const std::vector<double>& labels, uint64_t seed);

// From photos that no fit has used and that all have a prediction with a deviation; labels of the same unit. Throws Error:
// a photo without one, constant errors.
Calibration calibration_of(const std::vector<PhotoResult>& results, const std::vector<double>& labels);

}  // namespace qfm
