// qfm score: photos in, one line of quality each.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <optional>

#include "engine/base/sha256.h"
#include "engine/base/threads.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/photo_options.h"
#include "tools/cli/photos.h"
#include "tools/cli/results.h"
#include "tools/cli/version.h"
#include "train/image/photo_stream.h"
#include "train/predict/interval.h"

namespace qfm {
namespace {

struct ScoreOptions {
  CommonOptions common;
  PhotoOptions photos;
  bool sort = false, json = false, raw = false;
  double interval = 0.9;
  std::string output;
};

// The model and how its outputs become printed scores.
struct Scorer {
  LoadedModel loaded;
  Predictor predictor;
  bool raw;
  double probability;            // of the interval
  std::optional<double> factor;  // its half in deviations

  Scorer(const std::string& path, Device device, const ScoreOptions& options, const PredictOptions& how)
      : loaded(load_model(path, device, asked_dtype(options.common), false)),
        predictor(*loaded.model, loaded.info, how),
        raw(options.raw),
        probability(options.interval),
        factor(as_usage("--interval", [&] { return interval_factor(loaded.info, options.interval); })) {}

  // The stream's next photo, which is `path`.
  ScoredPhoto operator()(const std::string& path, PhotoStream& photos) const {
    ScoredPhoto result{.path = path, .error = ""};
    try {
      DecodeResult photo = photos.next();
      QFM_CHECK(photo.error.empty(), photo.error);
      const Prediction p = predictor(std::move(photo.image));
      const ModelInfo& info = loaded.info;
      result.quality = info.to_0_100(p.score);
      result.score = raw ? info.to_label_unit(p.score) : result.quality;
      result.spread = raw ? info.std_to_label_unit(p.spread) : info.std_to_0_100(p.spread);
      if (factor) result.interval = printed(interval_around(p, info, *factor)), result.probability = probability;
      result.width = p.width, result.height = p.height, result.crops = p.crops;
      if (!std::isfinite(result.score + result.spread)) result.error = "the model gives no finite score";
    } catch (const Error& e) {
      result.error = e.what();
    } catch (const std::bad_alloc&) {
      result.error = "out of memory";
    }
    return result;
  }

 private:
  Interval printed(const Interval& output) const {
    const ModelInfo& info = loaded.info;
    const auto unit = [&](double end) { return raw ? info.to_label_unit(end) : info.to_0_100(end); };
    return {std::min(unit(output.low), unit(output.high)), std::max(unit(output.low), unit(output.high))};
  }
};

std::string scale_of(const ModelInfo& info, bool raw) {
  if (!raw) return "0-100, higher is better";
  return format("%g-%g, %s is better", info.label_low, info.label_high,
                info.higher_is_better ? "higher" : "lower");
}

Json header(const ScoreOptions& options, const LoadedModel& loaded, const std::string& model) {
  const ModelInfo& info = loaded.info;
  Json header{{"tool", "qfm"},
              {"version", version()},
              {"commit", commit()},
              {"model", info.name},
              {"model_sha256", sha256_of_file(model)},
              {"scale", scale_of(info, options.raw)},
              {"training_set", info.training_set},
              {"crops", options.photos.crops},
              {"resize", as_json(options.photos.predict(options.common.seed).resize.value_or(info.resize))},
              {"dtype", flag_of(loaded.dtype)},
              {"interval", info.calibration ? Json(options.interval) : Json(nullptr)},
              {"seed", options.common.seed}};
  add_kernels(header, loaded.model->params.master.device());
  return header;
}

void report_finished(const std::vector<ScoredPhoto>& results, double seconds) {
  const auto failed = std::count_if(results.begin(), results.end(), [](auto& r) { return !r.error.empty(); });
  const auto all = static_cast<ptrdiff_t>(results.size());
  std::string line = format("%td photo%s scored", all - failed, all - failed == 1 ? "" : "s");
  if (failed) line += format(", %td failed", failed);
  warn(line +
       format(", %.1f photos a second\n", static_cast<double>(all - failed) / std::max(seconds, 1e-9)));
}

// Where results go: stdout, or the file of -o (and then stdout only for --json).
class Output {
 public:
  Output(const ScoreOptions& options, const LoadedModel& loaded, const std::string& model, int64_t total)
      : options_(options), progress_(options.common.quiet, "photos", total) {
    if (!options.output.empty())
      file_.emplace(options.output, extension_of(options.output), header(options, loaded, model));
  }

  void add(ScoredPhoto result) {
    progress_.clear();
    if (!result.error.empty()) warn(error_line(result.path + ": " + result.error));
    if (file_) file_->add(result);
    if (!options_.sort) show(result);
    results_.push_back(std::move(result));
    progress_.update(static_cast<int64_t>(results_.size()));
  }

  // The exit code.
  int finish() {
    progress_.clear();
    const double seconds = progress_.seconds();
    if (options_.sort) {
      std::stable_sort(results_.begin(), results_.end(), [](const ScoredPhoto& a, const ScoredPhoto& b) {
        if (a.error.empty() != b.error.empty()) return a.error.empty();
        return a.error.empty() && a.quality > b.quality;
      });
      for (const auto& result : results_) show(result);
    }
    if (file_) options_.sort ? file_->finish(results_) : file_->finish();
    if (!options_.common.quiet) report_finished(results_, seconds);
    return std::any_of(results_.begin(), results_.end(), [](auto& r) { return !r.error.empty(); });
  }

 private:
  void show(const ScoredPhoto& result) const {
    if (options_.json) print(json_line(result));
    else if (!file_ && result.error.empty()) print(text_line(result));
  }

  const ScoreOptions& options_;
  Progress progress_;
  std::optional<ResultFile> file_;
  std::vector<ScoredPhoto> results_;
};

int score(const ScoreOptions& options) {
  if (!options.output.empty()) {
    if (extension_of(options.output) == ".html")
      throw UsageError("-o " + options.output +
                       ": HTML is not built yet for score; use .json, .jsonl or .csv");
    checked_extension(options.output, ".json .jsonl .csv");
  }
  as_usage("--interval", [&] { interval_factor({}, options.interval); });
  const PredictOptions predict = options.photos.predict(options.common.seed);
  const Device device = apply(options.common).device;
  const auto photos = list_photos(options.photos.paths, options.photos.recursive, options.photos.nul);
  // Starts while the model is read.
  PhotoStream stream(photos, {.decode = options.photos.decode(), .workers = decode_workers()});
  const std::string model = model_path(options.common);
  const Scorer scorer(model, device, options, predict);
  if (!scorer.loaded.info.higher_is_better)
    note(options.common.quiet,
         options.raw ? "qfm: scores are in the unit of the labels: lower is better\n"
                     : "qfm: the labels of this model's training set are lower for better photos; "
                       "scores are turned round: higher is better\n");
  Output output(options, scorer.loaded, model, static_cast<int64_t>(photos.size()));
  if (!scorer.factor)
    note(options.common.quiet, "qfm: " + model + ": not calibrated: no interval is printed, and how far a score may be off is not known\n");
  for (const auto& photo : photos) output.add(scorer(photo.path, stream));
  return output.finish();
}

}  // namespace

void add_score(CLI::App& parent, const RegisterAction& on) {
  const auto options = std::make_shared<ScoreOptions>();
  CLI::App* app = add_subcommand(parent, "score",
                                 "Score photos: 0 (bad) to 100 (excellent), as people would on average.\n"
                                 "Prints SCORE  [LOW, HIGH]  PATH: the mean over crops of the photo, and where people's mean "
                                 "opinion lies with probability --interval. Without [LOW, HIGH] from a model without calibration.",
                                 "qfm score -r --sort photos/");
  add_photo_options(*app, options->photos);
  app->add_flag("--sort", options->sort, "Best first (default: in the order given)");
  app->add_flag("--json", options->json, "Print JSON lines, one a photo");
  app->add_option("-o", options->output,
                  "Write a file instead: .json, .jsonl or .csv; while it grows it is FILE.part, readable if "
                  "the run dies")
      ->type_name("FILE");
  app->add_option("--interval", options->interval, "Probability that the opinion lies in [LOW, HIGH], inside 0..1")
      ->capture_default_str()
      ->type_name("P");
  app->add_flag("--raw", options->raw, "In the unit and direction of the training labels, not 0-100");
  add_model_option(*app, options->common);
  add_device_options(*app, options->common);
  add_common_options(*app, options->common);
  on(app, [options] { return score(*options); });
}

}  // namespace qfm
