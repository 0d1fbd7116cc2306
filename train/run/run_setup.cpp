#include "train/run/run_setup.h"

#include <filesystem>
#include <map>

#include "train/predict/predict.h"
#include "train/run/run_data.h"

namespace qfm {

namespace {

// What is asked for; else, for the two sets of large photos, method.md 7 (upright, whatever their shape, in
// the paper's protocol); else what the checkpoint was trained with.
Resize photo_size(const TrainConfig& config, const Resize& of_checkpoint) {
  if (*config.resize) return **config.resize;
  if (config.data.starts_with("koniq10k:") || config.data.starts_with("spaq:"))
    return config.protocol == "paper" ? Resize{0, 512, 384} : Resize{384, 0, 0};
  return of_checkpoint;
}

}  // namespace

ModelInfo starting_info(const TrainConfig& config) {
  ModelInfo info;
  if (config.init.empty()) {
    info.config = model_config(config.arch.empty() ? "vit-small" : config.arch);
    info.config.select = config.select, info.resize = photo_size(config, {});
    return info;
  }
  const SafeTensors file = SafeTensors::open(config.init);
  if (file.metadata().count("qfm")) {
    info = read_model_info(file);
  } else {
    info.config = timm_config(file);
  }
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

QfmOptions method_options(const TrainConfig& config, const Dataset& train, int64_t batch) {
  QfmOptions options;
  options.w_cons = config.w_cons, options.w_feat = config.w_feat, options.w_sel = config.w_sel;
  options.w_distil = config.w_distil;
  options.w_contrast = config.w_contrast, options.contrast_tau = config.tau_q;
  options.batch = batch, options.references = reference_numbers(train);
  if (config.match != "off")
    options.match = {match_mode(config.match),
                     config.memory,
                     {static_cast<float>(config.tau_q), static_cast<float>(config.tau_s)},
                     config.a_max,
                     config.adversarial,
                     static_cast<uint64_t>(config.seed)};
  return options;
}

DistilOptions distil_options(const TrainConfig& config) {
  return {config.teacher, config.ema, config.w_distil_feat, static_cast<uint64_t>(config.seed)};
}

PseudoLabels label_unlabelled(const TrainConfig& config,
                              const std::function<void(int64_t, int64_t)>& progress) {
  if (config.unlabelled.empty()) return {};
  QFM_CHECK(config.resume || !std::filesystem::exists(config.out + "/config.json"), config.out,
            ": holds a run already; --resume goes on with it");
  std::error_code error;
  std::filesystem::create_directories(config.out, error);
  QFM_CHECK(!error, config.out, ": cannot be made: ", error.message());
  PseudoLabelOptions options{config.teacher,
                             config.unlabelled,
                             config.label_cache,
                             config.spread_quantile,
                             static_cast<int>(config.workers),
                             choose_device(*config.device).device,
                             progress};
  if (options.cache.empty()) options.cache = config.out + "/pseudo_labels.jsonl";
  return pseudo_labels(options);
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
