#include "train/run/run_setup.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>

#include "models/registry.h"
#include "models/weight_names.h"
#include "train/predict/predict.h"
#include "train/run/run_data.h"

namespace qfm {

namespace {

// What is asked for; else, for the two sets of large photos, models/METHOD.md 7.5 (upright, whatever their
// shape, in the paper's protocol); else what the checkpoint was trained with.
Resize photo_size(const TrainConfig& config, const Resize& of_checkpoint) {
  if (*config.resize) return **config.resize;
  if (config.data.starts_with("koniq10k:") || config.data.starts_with("spaq:"))
    return config.protocol == "paper" ? Resize{0, 512, 384} : Resize{384, 0, 0};
  return of_checkpoint;
}

struct Moments {
  double mean = 0, deviation = 0;
};
Moments moments_of(const std::vector<double>& targets) {
  const double n = static_cast<double>(targets.size()), mean = std::reduce(targets.begin(), targets.end()) / n;
  double squares = 0;
  for (const double target : targets) squares += (target - mean) * (target - mean);
  return {mean, std::sqrt(squares / n)};
}

std::shared_ptr<const HeadConfig> new_head(const TrainConfig& config, const std::vector<double>& targets) {
  auto head = standard_head(config.head.empty() ? "query_decoder" : config.head);
  if (targets.empty()) return head;
  const Moments m = moments_of(targets);
  const auto fitted = head->for_labels(m.mean, m.deviation);
  return fitted ? fitted : head;
}

// The same head, and with it a variance where --calibrate asks for one.
std::shared_ptr<const HeadConfig> calibrated(const std::shared_ptr<const HeadConfig>& head, const TrainConfig& config,
                                             const std::vector<double>& targets) {
  if (!config.calibrate->given() || head->gives_variance() || targets.empty()) return head;
  auto more = head->with_variance(moments_of(targets).deviation);
  QFM_CHECK(more, "--calibrate: the head ", type_of(*head), " gives no variance");
  return more;
}

}  // namespace

ModelInfo starting_info(const TrainConfig& config, const std::vector<double>& targets) {
  ModelInfo info;
  if (config.init.empty()) {
    info = ModelInfo(model_config(config.arch.empty() ? "vit-small" : config.arch));
    info.config.head = calibrated(new_head(config, targets), config, targets);
    info.config.select = config.select, info.resize = photo_size(config, {});
    return info;
  }
  const TensorFile file = open_weights(config.init);
  if (file.metadata().count("qfm")) {
    info = read_model_info(file);
  } else {
    info = ModelInfo(timm_config(file));
    info.config.head = new_head(config, targets);
  }
  QFM_CHECK(info.config.head->views() == 1, config.init, ": its head scores ", info.config.head->views(),
            " views of an image together, qfm train gives one");
  QFM_CHECK(config.head.empty() || type_of(*info.config.head) == config.head, config.init, ": has the head ",
            type_of(*info.config.head), ", not ", config.head);
  info.config.head = calibrated(info.config.head, config, targets);
  info.calibration.reset();  // of other weights
  info.config.select = info.config.select || config.select;
  info.resize = photo_size(config, info.resize);
  QFM_CHECK(config.arch.empty() || config.arch == info.config.arch, config.init, ": is ", info.config.arch,
            ", not ", config.arch);
  return info;
}

void describe(ModelInfo& info, const TrainConfig& config, const Dataset& train) {
  info.labels_scaled = config.labels == "scaled";
  info.label_low = train.range.low, info.label_high = train.range.high;
  info.higher_is_better = train.higher_is_better;
  info.training_set = train.name;
  if (!train.split_sha256.empty()) info.training_set += ", train part of split " + train.split_sha256;
  info.seed = static_cast<uint64_t>(config.seed);
  info.truncated_schedule = truncated_schedule(config);
}

LoaderOptions loader_options(const TrainConfig& config, const ModelInfo& info) {
  LoaderOptions options;
  options.batch = config.batch, options.crops_per_image = config.crops_per_image;
  options.crop = static_cast<int>(info.crop), options.resize = info.resize;
  options.norm = normalisation(info);
  options.seed = static_cast<uint64_t>(config.seed);
  options.workers = static_cast<int>(config.workers);
  return options;
}

namespace {

// Photos of equal reference get equal numbers, -1 without.
std::vector<int64_t> reference_numbers(const Dataset& set) {
  std::map<std::string, int64_t> numbers;
  std::vector<int64_t> result;
  for (const Sample& sample : set.samples)
    result.push_back(
        sample.reference.empty()
            ? -1
            : numbers.emplace(sample.reference, static_cast<int64_t>(numbers.size())).first->second);
  return result;
}

}  // namespace

Objectives objectives_of(const TrainConfig& config, const Dataset& train, const std::vector<float>& labels,
                         Semantics semantics, int64_t batch, Model& model, const ModelInfo& info,
                         Device device, DType compute) {
  std::vector<float> scores;
  for (float label : labels) scores.push_back(label / 100);
  return make_objectives({config.objectives, model, info, device, compute, batch,
                          static_cast<uint64_t>(config.seed), reference_numbers(train), std::move(scores),
                          std::move(semantics)});
}

PseudoLabels label_unlabelled(const TrainConfig& config,
                              const std::function<void(int64_t, int64_t)>& progress) {
  const Options& options = config.objectives;
  if (options.text("unlabelled").empty()) return {};
  QFM_CHECK(config.resume || !std::filesystem::exists(config.out + "/config.json"), config.out,
            ": holds a run already; --resume goes on with it");
  std::error_code error;
  std::filesystem::create_directories(config.out, error);
  QFM_CHECK(!error, config.out, ": cannot be made: ", error.message());
  PseudoLabelOptions how{options.text("teacher"),
                         options.text("unlabelled"),
                         options.text("label-cache"),
                         options.number("spread-quantile"),
                         static_cast<int>(config.workers),
                         choose_device(*config.device).device,
                         progress};
  if (how.cache.empty()) how.cache = config.out + "/pseudo_labels.jsonl";
  return pseudo_labels(how);
}

LabelledPhotos labelled_photos(const Dataset& set, bool scaled) {
  const auto labels = targets_of(set, set, scaled);
  return {paths_of(set), {labels.begin(), labels.end()}};
}

LabelledPhotos labelled_photos(const PseudoLabels& labels, const Dataset& set, bool scaled) {
  LabelledPhotos photos;
  for (const PseudoLabel& label : labels.kept) {
    photos.paths.push_back(label.path);
    photos.labels.push_back(static_cast<float>(label_of(label.quality, set, scaled)));
  }
  return photos;
}

}  // namespace qfm
