#include "train/predict/evaluate.h"

#include <cmath>

#include "engine/base/error.h"
#include "train/image/photo_stream.h"

namespace qfm {

std::vector<PhotoResult> predict_photos(const Predictor& predictor, const std::vector<std::string>& paths,
                                        const EvaluateOptions& options) {
  PhotoStream photos(paths, {.decode = options.decode, .workers = options.workers});
  std::vector<PhotoResult> results;
  for (const auto& path : paths) {
    DecodeResult photo = photos.next();
    if (photo.error.empty()) results.push_back({predictor(std::move(photo.image)), ""});
    else results.push_back({std::nullopt, path + ": " + photo.error});
    if (options.progress && !options.progress(static_cast<int64_t>(results.size()))) break;
  }
  return results;
}

std::optional<Agreement> agreement_with(const std::vector<PhotoResult>& results,
                                        const std::vector<double>& labels, uint64_t seed) {
  std::vector<double> predicted, wanted;
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].prediction) continue;
    predicted.push_back(results[i].prediction->score);
    wanted.push_back(labels[i]);
  }
  if (predicted.size() < 3) return std::nullopt;
  return agreement(predicted, wanted, seed);
}

Calibration calibration_of(const std::vector<PhotoResult>& results, const std::vector<double>& labels) {
  std::vector<double> ratios;
  for (size_t i = 0; i < results.size(); ++i) {
    QFM_CHECK(results[i].prediction, results[i].error);
    const Prediction& p = *results[i].prediction;
    QFM_CHECK(p.deviation && *p.deviation > 0, "calibration: the model gives a photo no deviation");
    ratios.push_back(std::abs(p.score - labels[i]) / *p.deviation);
  }
  return Calibration(std::move(ratios));
}

}  // namespace qfm
