#include "train/run/run_data.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "engine/base/error.h"
#include "engine/base/sha256.h"
#include "engine/base/threads.h"
#include "train/data/split.h"
#include "train/image/photo_stream.h"

namespace qfm {

namespace {

constexpr size_t kLeastCalibration = 100;  // the interval's ends are order statistics of as many errors

void check_apart(const Dataset& calibration, const Dataset& other, const char* part) {
  std::set<std::string> paths;
  for (const Sample& sample : other.samples) paths.insert(std::filesystem::weakly_canonical(sample.path).string());
  for (const Sample& sample : calibration.samples)
    QFM_CHECK(!paths.count(std::filesystem::weakly_canonical(sample.path).string()), calibration.name, ": ", sample.name,
              " is in the ", part, " part too; --calibrate needs photos of its own");
}

}  // namespace

RunData load_run_data(const TrainConfig& config) {
  DatasetOptions options{.root = config.root,
                         .image_column = config.image_column,
                         .score_column = config.score_column,
                         .fold = config.fold,
                         .scale = *config.scale,
                         .lower_is_better = config.lower_is_better};
  options.split = config.split;
  RunData data{load_dataset(config.data, options), {}, {}};
  options.split.clear();
  if (!config.split.empty()) {
    if (config.protocol == "paper" && !config.val->given()) data.validation = part_of(data.train, "test");
    data.train = part_of(data.train, "train");
  }
  if (const auto fraction = config.val->fraction) {
    std::tie(data.train, data.validation) =
        split_fraction(data.train, *fraction, static_cast<uint64_t>(config.seed));
  } else if (config.val->given()) {
    options.fold.clear();
    data.validation = load_dataset(config.val->manifest, options);
  }
  if (const auto fraction = config.calibrate->fraction) {
    std::tie(data.train, data.calibration) = split_fraction(data.train, *fraction, static_cast<uint64_t>(config.seed));
  } else if (config.calibrate->given()) {
    options.fold.clear();
    data.calibration = load_dataset(config.calibrate->manifest, options);
    check_apart(data.calibration, data.train, "training"), check_apart(data.calibration, data.validation, "validation");
  }
  const size_t calibrating = data.calibration.samples.size();
  QFM_CHECK(!config.calibrate->given() || calibrating >= kLeastCalibration, data.calibration.name, ": ", calibrating,
            " photos to calibrate with, at least ", kLeastCalibration, " are needed");
  const Range range = data.train.range;
  QFM_CHECK(range.low < range.high, config.data, ": all labels are ", range.low, ": nothing can be learnt");
  return data;
}

std::string digest_of(const RunData& data) {
  nlohmann::json text;
  for (const Dataset* set : {&data.train, &data.validation, &data.calibration}) {
    if (set == &data.calibration && set->samples.empty()) continue;  // as before there was one
    text.push_back({set->range.low, set->range.high, set->higher_is_better});
    for (const Sample& s : set->samples) text.push_back({s.name, s.score, s.reference});
  }
  const std::string bytes = text.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return sha256(bytes);
}

std::vector<std::string> paths_of(const Dataset& set) {
  std::vector<std::string> paths;
  for (const Sample& sample : set.samples) paths.push_back(sample.path);
  return paths;
}

std::vector<double> targets_of(const Dataset& set, const Dataset& train, bool scaled) {
  std::vector<double> values;
  for (const Sample& sample : set.samples)
    values.push_back(scaled ? train.scaled(sample.score) : sample.score);
  return values;
}

void check_photos(const std::vector<std::string>& paths,
                  const std::function<void(int64_t, int64_t)>& report) {
  const auto count = static_cast<int64_t>(paths.size());
  PhotoStream photos(paths, {.workers = threads(), .on_image = [](int64_t, Image& image) { image = {}; }});
  std::string first;
  int64_t bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    const std::string reason = photos.next().error;
    if (!reason.empty() && bad++ == 0) first = paths[static_cast<size_t>(i)] + ": " + reason;
    if (report) report(i + 1, count);
  }
  QFM_CHECK(bad == 0, first, bad > 1 ? concat(" (and ", bad - 1, " more bad photos of ", count, ")") : "");
}

}  // namespace qfm
