#include "tools/cli/scorer.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "engine/base/sha256.h"
#include "tools/cli/console.h"
#include "tools/cli/version.h"
#include "train/predict/interval.h"

namespace qfm {
namespace {

std::string scale_of(const ModelInfo& info, bool raw) {
  if (!raw) return "0-100, higher is better";
  return format("%g-%g, %s is better", info.label_low, info.label_high,
                info.higher_is_better ? "higher" : "lower");
}

}  // namespace

Scorer::Scorer(const CommonOptions& common, Device device, const PredictOptions& how, double interval,
               bool raw)
    : path_(model_path(common)),
      loaded_(load_model(path_, device, asked_dtype(common), false)),
      predictor_(*loaded_.model, loaded_.info, how),
      raw_(raw),
      probability_(interval),
      factor_(as_usage("--interval", [&] { return interval_factor(loaded_.info, interval); })) {}

ScoredPhoto Scorer::operator()(const std::string& path, PhotoStream& photos) const {
  ScoredPhoto result{.path = path, .error = ""};
  try {
    DecodeResult photo = photos.next();
    QFM_CHECK(photo.error.empty(), photo.error);
    result.preview_of = std::move(photo.preview_of);
    const Prediction p = predictor_(std::move(photo.image));
    const ModelInfo& info = loaded_.info;
    result.quality = info.to_0_100(p.score);
    result.score = raw_ ? info.to_label_unit(p.score) : result.quality;
    result.spread = raw_ ? info.std_to_label_unit(p.spread) : info.std_to_0_100(p.spread);
    if (factor_) {
      result.interval = printed(interval_around(p, info, *factor_)), result.probability = probability_;
      result.deviation = info.std_to_0_100(*p.deviation);
    }
    result.width = p.width, result.height = p.height, result.crops = p.crops;
    if (!std::isfinite(result.score + result.spread)) result.error = "the model gives no finite score";
  } catch (const Error& e) {
    result.error = e.what();
  } catch (const std::bad_alloc&) {
    result.error = "out of memory";
  }
  return result;
}

Interval Scorer::printed(const Interval& output) const {
  const ModelInfo& info = loaded_.info;
  const auto unit = [&](double end) { return raw_ ? info.to_label_unit(end) : info.to_0_100(end); };
  return {std::min(unit(output.low), unit(output.high)), std::max(unit(output.low), unit(output.high))};
}

void Scorer::note_limits(bool quiet) const {
  if (!loaded_.info.higher_is_better)
    note(quiet, raw_ ? "qfm: scores are in the unit of the labels: lower is better\n"
                     : "qfm: the labels of this model's training set are lower for better photos; "
                       "scores are turned round: higher is better\n");
  if (!factor_)
    note(quiet,
         "qfm: " + path_ +
             ": not calibrated: no interval is printed, and how far a score may be off is not known\n");
}

Json Scorer::header(const CommonOptions& common, const PhotoOptions& photos) const {
  const ModelInfo& info = loaded_.info;
  Json header{{"tool", "qfm"},
              {"version", version()},
              {"commit", commit()},
              {"model", info.name},
              {"model_sha256", sha256_of_file(path_)},
              {"scale", scale_of(info, raw_)},
              {"training_set", info.training_set},
              {"crops", photos.crops},
              {"resize", as_json(photos.predict(common.seed).resize.value_or(info.resize))},
              {"dtype", flag_of(loaded_.dtype)},
              {"interval", info.calibration ? Json(probability_) : Json(nullptr)},
              {"seed", common.seed}};
  if (photos.no_exif) header["exif"] = "ignored";
  if (photos.ignores_icc()) header["icc"] = "ignored";
  add_kernels(header, loaded_.model->params.master.device());
  return header;
}

}  // namespace qfm
