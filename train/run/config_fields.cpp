// The table of `qfm train`'s flags.
#include <set>

#include "engine/base/error.h"
#include "models/checkpoint.h"
#include "models/preprocessing.h"
#include "models/registry.h"
#include "train/data/csv.h"
#include "train/data/dataset.h"
#include "train/run/config.h"

namespace qfm {
namespace {

using C = TrainConfig;
constexpr double tiny = std::numeric_limits<double>::min();  // the least normal number: "above 0"

}  // namespace

std::optional<Range> parse_scale_flag(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(parse_range(text));
}

std::optional<Resize> parse_resize_flag(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(parse_photo_size(text));
}

Validation parse_val_flag(const std::string& text) {
  std::optional<double> fraction;
  try {
    fraction = parse_number(text);
  } catch (const Error&) {
    return {std::nullopt, text};
  }
  QFM_CHECK(*fraction > 0 && *fraction < 1, "'", text, "' is neither inside 0..1 nor a manifest");
  return {fraction, ""};
}

ScheduleKind parse_schedule_flag(const std::string& text) { return schedule_named(text); }

DeviceRequest parse_device_flag(const std::string& text) {
  const auto request = device_request(text);
  QFM_CHECK(request, "'", shown(text), "' is none of auto, cpu, cuda, cuda:N");
  return *request;
}

std::optional<DType> parse_dtype_flag(const std::string& text) {
  if (text == "auto") return std::nullopt;
  QFM_CHECK(text != "int8", "'int8' is for scoring; training takes f32 or bf16");
  QFM_CHECK(text == "f32" || text == "bf16", "'", shown(text), "' is none of auto, f32, bf16");
  return text == "bf16" ? DType::BF16 : DType::F32;
}

void choose_dtype(TrainConfig& config, Device device) {
  if (!*config.dtype) config.dtype = usual_dtype(device) == DType::BF16 ? "bf16" : "f32";
}

namespace {

// A run gives one view of an image.
std::vector<std::string_view> heads_of_one_view() {
  std::vector<std::string_view> types;
  for (const std::string& type : head_types())
    if (standard_head(type)->views() == 1) types.push_back(type);
  return types;
}

std::vector<ConfigField> fields_of_runs() {
  return {
      {.key = "data",
       .member = &C::data,
       .help = "scored photos: NAME:FOLDER or a manifest CSV",
       .check = check_dataset_name},
      {.key = "root",
       .member = &C::root,
       .help = "folder of the manifest's images (default: the manifest's own)"},
      {.key = "image-column",
       .member = &C::image_column,
       .help = "of a manifest: the column of images (default: image, path, file, filename, name or image_name)",
       .sparse = true},
      {.key = "score-column",
       .member = &C::score_column,
       .help = "of a manifest: the column of scores (default: score, mos or dmos)",
       .sparse = true},
      {.key = "fold",
       .member = &C::fold,
       .help = "COLUMN=VALUE: only these rows of --data",
       .check = [](const std::string& text) { parse_fold(text); }},
      {.key = "split",
       .member = &C::split,
       .help = "a split of --data made by qfm data split: learn from its train part"},
      {.key = "scale", .member = &C::scale, .help = "LO:HI, the range of the labels"},
      {.key = "lower-is-better", .member = &C::lower_is_better, .help = "the labels are DMOS-like"},
      {.key = "val", .member = &C::val, .help = "validation part: a fraction of --data, or a manifest"},
      {.key = "calibrate",
       .member = &C::calibrate,
       .help = "learn how far scores may be off, and calibrate it on a part that no update sees: a fraction of --data, or a "
               "manifest",
       .sparse = true},
      {.key = "labels",
       .member = &C::labels,
       .help = "targets on 0-100, or as in the table",
       .choices = {"scaled", "raw"}},
      {.key = "init",
       .member = &C::init,
       .help = "start from this checkpoint: ours, timm, torchvision or Hugging Face, .safetensors or .pth"},
      {.key = "arch",
       .member = &C::arch,
       .help = "backbone (default: that of --init, else vit-small)",
       .choices = {architectures().begin(), architectures().end()}},
      {.key = "head",
       .member = &C::head,
       .help = "what scores are read with (default: that of --init, else query_decoder)",
       .choices = heads_of_one_view(),
       .sparse = true},
      {.key = "resize",
       .member = &C::resize,
       .help =
           "photos before crops are cut: none, the shorter SIDE, or HEIGHTxWIDTH (default: 384 for koniq10k "
           "and spaq, 512x384 with --protocol paper, else as --init says)",
       .sparse = true},
      {.key = "epochs", .member = &C::epochs, .help = "passes over the photos", .low = 1, .high = 1e6},
      {.key = "batch", .member = &C::batch, .help = "crops in an update", .low = 1, .high = 65536},
      {.key = "crops-per-image",
       .member = &C::crops_per_image,
       .help = "random crops of a photo in an epoch",
       .low = 1,
       .high = 10000},
      {.key = "lr", .member = &C::lr, .help = "highest learning rate", .low = tiny, .high = 10},
      {.key = "weight-decay", .member = &C::weight_decay, .help = "of AdamW", .low = 0, .high = 1},
      {.key = "clip", .member = &C::clip, .help = "largest norm of the gradient", .low = tiny},
      {.key = "average",
       .member = &C::average,
       .help = "the model is the mean of its weights over this last share of the updates",
       .low = 0,
       .high = 1,
       .or_off = true,
       .sparse = true},
      {.key = "schedule",
       .member = &C::schedule,
       .help = "learning rate over the run",
       .choices = {"deiqt", "cosine", "constant"}},
      {.key = "warmup",
       .member = &C::warmup,
       .help = "epochs of linear warm-up, also parts of one (default: a third of --epochs)",
       .low = 0,
       .high = 1e6},
      {.key = "protocol",
       .member = &C::protocol,
       .help = "clean: report the last epoch; paper: the best on --val",
       .choices = {"clean", "paper"}},
      {.key = "select", .member = &C::select, .help = "feature selection head", .choices = {"on", "off"}},
  };
}

// Those that have been in config.json from the first: results are kept under keys made of it.
const std::set<std::string_view> kAlwaysStored = {
    "match",   "adversarial", "memory",      "tau-q",        "tau-s",           "a-max",    "w-cons",        "w-feat", "w-sel",
    "w-contrast", "teacher",  "unlabelled",  "label-cache",  "pseudo-ratio",    "spread-quantile", "w-distil", "w-distil-feat", "ema"};

std::vector<ConfigField> fields_of_objectives() {
  std::vector<ConfigField> fields;
  for (const OptionField& f : option_fields())
    fields.push_back({.key = f.key,
                      .member = f.standard,
                      .help = f.help,
                      .choices = f.choices,
                      .low = f.low,
                      .high = f.high,
                      .or_off = f.or_off,
                      .sparse = kAlwaysStored.count(f.key) == 0});
  return fields;
}

std::vector<ConfigField> fields_of_this_call() {
  return {
      {.key = "seed", .member = &C::seed, .help = "of every random choice", .low = 0},
      {.key = "threads", .member = &C::threads, .help = "0: all cores", .low = 0, .high = 1024},
      {.key = "workers", .member = &C::workers, .help = "threads that decode photos", .low = 0, .high = 256},
      {.key = "device", .member = &C::device, .help = "auto, cpu, cuda or cuda:N"},
      {.key = "dtype", .member = &C::dtype, .help = "of activations: f32, bf16, or auto (bf16 on CUDA, else f32)"},
      {.key = "out", .member = &C::out, .help = "folder of the run"},
      {.key = "resume", .member = &C::resume, .help = "go on with the run in --out", .stored = false},
      {.key = "quiet", .member = &C::quiet, .help = "no progress", .stored = false},
  };
}

}  // namespace

const std::vector<ConfigField>& config_fields() {
  static const std::vector<ConfigField> fields = [] {
    std::vector<ConfigField> all = fields_of_runs();
    for (const auto& more : {fields_of_objectives(), fields_of_this_call()}) all.insert(all.end(), more.begin(), more.end());
    return all;
  }();
  return fields;
}

}  // namespace qfm
