// A checkpoint as the commands that score photos use it: the model, and how its outputs become printed scores.
#pragma once
#include <optional>
#include <string>

#include "models/checkpoint.h"
#include "tools/cli/command.h"
#include "tools/cli/photo_options.h"
#include "tools/cli/results.h"
#include "train/image/photo_stream.h"
#include "train/predict/predict.h"

namespace qfm {

class Scorer {
 public:
  // Reads the model of --model. interval: its probability. raw: in the unit of the labels. Throws UsageError for an interval
  // that the model's calibration cannot give.
  Scorer(const CommonOptions& common, Device device, const PredictOptions& how, double interval, bool raw);

  // The stream's next photo, which is `path`. What is wrong with it is its error.
  ScoredPhoto operator()(const std::string& path, PhotoStream& photos) const;

  // Of the scores as they are printed.
  bool more_is_better() const { return !raw_ || loaded_.info.higher_is_better; }
  const Calibration* calibration() const { return factor_ ? &*loaded_.info.calibration : nullptr; }
  // Says on stderr what a reader of the scores must know of the model: labels that are turned round, no calibration.
  void note_limits(bool quiet) const;
  // What stands above results: tool, model, scale, training set, crops, dtype.
  Json header(const CommonOptions& common, const PhotoOptions& photos) const;

 private:
  Interval printed(const Interval& output) const;

  const std::string path_;
  const LoadedModel loaded_;
  const Predictor predictor_;
  const bool raw_;
  const double probability_;            // of the interval
  const std::optional<double> factor_;  // its half in deviations
};

}  // namespace qfm
