// qfm eval: how well a checkpoint agrees with people on a scored set.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "engine/base/io.h"
#include "engine/base/sha256.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/data_options.h"
#include "tools/cli/photo_options.h"
#include "tools/cli/photos.h"
#include "tools/cli/version.h"
#include "tools/commands/eval_report.h"
#include "train/predict/evaluate.h"
#include "train/predict/interval.h"

namespace qfm {
namespace {

struct EvalOptions {
  CommonOptions common;
  PhotoOptions photos;
  DataOptions data;
  std::string output;
  double interval = 0.9;
  bool json = false;
};

CalibratedPhoto calibrated(const Dataset& set, const Sample& sample, const ModelInfo& info, const Prediction& p,
                           double factor) {
  const Interval i = interval_around(p, info, factor);
  const double a = info.to_0_100(i.low), b = info.to_0_100(i.high);
  return {set.quality(sample.score), info.to_0_100(p.score), info.std_to_0_100(*p.deviation), {std::min(a, b), std::max(a, b)},
          sample.subset};
}

// results: those that have a prediction, as their samples.
EvalReport::Intervals intervals_of(const Dataset& set, const std::vector<std::pair<const Sample*, Prediction>>& scored,
                                   const ModelInfo& info, double probability) {
  EvalReport::Intervals report{probability, {}, {}, {}};
  const auto with = [&](double factor) {
    std::vector<CalibratedPhoto> photos;
    for (const auto& [sample, prediction] : scored) photos.push_back(calibrated(set, *sample, info, prediction, factor));
    return photos;
  };
  report.photos = with(*interval_factor(info, probability));
  for (int percent = 5; percent < 100; percent += 5)
    if (const auto factor = info.calibration->factor(percent / 100.0))
      report.reliability.push_back({percent / 100.0, coverages(with(*factor))[0].coverage});
  report.pairs = pair_reliability(report.photos, [&](const CalibratedPhoto& a, const CalibratedPhoto& b) {
    return info.calibration->probability_above(a.score, a.deviation, b.score, b.deviation);
  });
  return report;
}

// Within each subset of at least three photos, in the order of first photos.
std::vector<std::pair<std::string, Agreement>> agreement_by_subset(
    const std::vector<std::pair<const Sample*, Prediction>>& scored, const std::vector<EvalReport::Photo>& photos, uint64_t seed) {
  std::vector<std::string> names;
  std::map<std::string, std::pair<std::vector<double>, std::vector<double>>> lists;
  for (size_t i = 0; i < scored.size(); ++i) {
    const std::string& name = scored[i].first->subset;
    if (name.empty()) continue;
    if (!lists.count(name)) names.push_back(name);
    lists[name].first.push_back(photos[i].score), lists[name].second.push_back(photos[i].label);
  }
  std::vector<std::pair<std::string, Agreement>> subsets;
  for (const std::string& name : names)
    if (const auto& [predicted, wanted] = lists[name]; predicted.size() >= 3)
      subsets.emplace_back(name, agreement(predicted, wanted, seed));
  return subsets;
}

EvalReport evaluate(const EvalOptions& options, const Dataset& set, const LoadedModel& loaded,
                    const std::string& model, const Predictor& predictor) {
  EvalReport report;
  report.header = {{"tool", "qfm"},
                   {"version", version()},
                   {"commit", commit()},
                   {"data", options.data.data},
                   {"fold", options.data.set.fold},
                   {"split", options.data.set.split},
                   {"split_sha256", set.split_sha256},
                   {"model", loaded.info.name},
                   {"model_sha256", sha256_of_file(model)},
                   {"training_set", loaded.info.training_set},
                   {"scale", "0-100, higher is better"},
                   {"label_low", set.range.low},
                   {"label_high", set.range.high},
                   {"label_range_observed", set.range_observed},
                   {"labels_higher_is_better", set.higher_is_better},
                   {"crops", options.photos.crops},
                   {"resize", as_json(predictor.options().resize.value_or(loaded.info.resize))},
                   {"dtype", flag_of(loaded.dtype)},
                   {"interval", loaded.info.calibration ? Json(options.interval) : Json(nullptr)},
                   {"seed", options.common.seed}};
  if (loaded.info.truncated_schedule) report.header["schedule"] = "truncated";
  add_kernels(report.header, loaded.model->params.master.device());
  std::vector<std::string> paths;
  for (const auto& sample : set.samples) paths.push_back(sample.path);
  Progress progress(options.common.quiet, "photos", static_cast<int64_t>(paths.size()));
  EvaluateOptions how{.decode = options.photos.decode(), .workers = decode_workers()};
  how.progress = [&](int64_t done) {
    progress.update(done);
    return true;
  };
  const auto results = predict_photos(predictor, paths, how);
  progress.clear();
  std::vector<double> predicted, wanted;
  std::vector<std::pair<const Sample*, Prediction>> scored;
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].prediction) {
      warn(error_line(results[i].error));
      ++report.failed;
      continue;
    }
    const Prediction& p = *results[i].prediction;
    report.photos.push_back({set.samples[i].name, set.quality(set.samples[i].score),
                             loaded.info.to_0_100(p.score), loaded.info.std_to_0_100(p.spread)});
    scored.emplace_back(&set.samples[i], p);
    predicted.push_back(report.photos.back().score), wanted.push_back(report.photos.back().label);
  }
  QFM_CHECK(predicted.size() >= 3, set.name, ": only ", predicted.size(), " of ", results.size(),
            " photos could be scored, at least 3 are needed");
  report.agreement = agreement(predicted, wanted, options.common.seed);
  report.subsets = agreement_by_subset(scored, report.photos, options.common.seed);
  if (loaded.info.calibration) report.intervals = intervals_of(set, scored, loaded.info, options.interval);
  return report;
}

int eval(const EvalOptions& options) {
  std::string extension;
  if (!options.output.empty()) extension = checked_extension(options.output, ".json .csv .html");
  DatasetOptions how = checked(options.data);
  if (!how.split.empty()) how.part = "test";
  as_usage("--interval", [&] { interval_factor({}, options.interval); });
  const PredictOptions predict = options.photos.predict(options.common.seed);
  const Device device = apply(options.common).device;
  const std::string model = model_path(options.common);
  const Dataset set = load_dataset(options.data.data, how);
  const LoadedModel loaded = load_model(model, device, asked_dtype(options.common), false);
  as_usage("--interval", [&] { interval_factor(loaded.info, options.interval); });
  const Predictor predictor(*loaded.model, loaded.info, predict);
  const EvalReport report = evaluate(options, set, loaded, model, predictor);
  print(options.json ? to_line(report.summary()) : report.text());
  if (extension == ".json") write_file(options.output, report.json());
  if (extension == ".csv") write_file(options.output, report.csv());
  if (extension == ".html") write_file(options.output, report.html());
  return report.failed != 0;
}

}  // namespace

void add_eval(CLI::App& parent, const RegisterAction& on) {
  const auto options = std::make_shared<EvalOptions>();
  CLI::App* app =
      add_subcommand(parent, "eval",
                     "Measure how well a checkpoint agrees with the scores of photos.\n"
                     "SRCC, PLCC raw and after the 4-parameter logistic, KRCC (tau-b), RMSE, 95% "
                     "bootstrap intervals. Labels are "
                     "brought to 0-100, higher is better. Of a --split the test part is measured.",
                     "qfm eval --data scores.csv -o report.html");
  add_data_options(*app, options->data, DataGiven::ByFlag);
  add_view_options(*app, options->photos);
  app->add_option("--interval", options->interval, "Of a calibrated model: the probability whose intervals are examined")
      ->capture_default_str()
      ->type_name("P");
  app->add_flag("--json", options->json, "Print one JSON line");
  app->add_option("-o", options->output, "Report: .html (with scatter plot), .json or .csv (one row a photo)")
      ->type_name("FILE");
  add_model_option(*app, options->common);
  add_device_options(*app, options->common);
  add_common_options(*app, options->common);
  on(app, [options] { return eval(*options); });
}

}  // namespace qfm
