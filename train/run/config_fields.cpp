// The table of `qfm train`'s flags.
#include "engine/base/error.h"
#include "models/preprocessing.h"
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

DType parse_dtype_flag(const std::string& text) {
  QFM_CHECK(text == "f32" || text == "bf16", "'", shown(text), "' is none of f32, bf16");
  return text == "bf16" ? DType::BF16 : DType::F32;
}

const std::vector<ConfigField>& config_fields() {
  static const std::vector<ConfigField> fields = {
      {.key = "data",
       .member = &C::data,
       .help = "scored photos: NAME:FOLDER or a manifest CSV",
       .check = check_dataset_name},
      {.key = "root",
       .member = &C::root,
       .help = "folder of the manifest's images (default: the manifest's own)"},
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
      {.key = "labels",
       .member = &C::labels,
       .help = "targets on 0-100, or as in the table",
       .choices = {"scaled", "raw"}},
      {.key = "init", .member = &C::init, .help = "start from this checkpoint (timm names, or ours)"},
      {.key = "arch",
       .member = &C::arch,
       .help = "backbone (default: that of --init, else vit-small)",
       .choices = {"vit-tiny", "vit-small", "vit-base"}},
      {.key = "resize",
       .member = &C::resize,
       .help =
           "photos before crops are cut: none, the shorter SIDE, or HEIGHTxWIDTH (default: 384 for koniq10k "
           "and spaq, 512x384 with --protocol paper, else as --init says)"},
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
      {.key = "match",
       .member = &C::match,
       .help = "semantic noise matching",
       .choices = {"matched", "random", "gaussian", "off"}},
      {.key = "adversarial",
       .member = &C::adversarial,
       .help = "strengths of noise tried, or off",
       .low = 0,
       .high = 64,
       .or_off = true},
      {.key = "memory", .member = &C::memory, .help = "batches kept for matching", .low = 1, .high = 1024},
      {.key = "tau-q",
       .member = &C::tau_q,
       .help = "scores (0-1) at most this far apart match",
       .low = 0,
       .high = 1},
      {.key = "tau-s",
       .member = &C::tau_s,
       .help = "semantics at most this similar match",
       .low = -1,
       .high = 1},
      {.key = "a-max", .member = &C::a_max, .help = "largest strength of noise", .low = 0, .high = 100},
      {.key = "w-cons", .member = &C::w_cons, .help = "weight of the consistency loss", .low = 0},
      {.key = "w-feat", .member = &C::w_feat, .help = "weight of its feature term", .low = 0},
      {.key = "w-sel", .member = &C::w_sel, .help = "weight of the selection loss", .low = 0},
      {.key = "w-contrast",
       .member = &C::w_contrast,
       .help = "weight of the contrast of features by score (optional term)",
       .low = 0},
      {.key = "teacher", .member = &C::teacher, .help = "checkpoint (ours) that labels --unlabelled"},
      {.key = "unlabelled", .member = &C::unlabelled, .help = "folder of photos without scores"},
      {.key = "label-cache",
       .member = &C::label_cache,
       .help = "file that keeps the teacher's labels (default: in --out)"},
      {.key = "pseudo-ratio",
       .member = &C::pseudo_ratio,
       .help = "share of a batch that has pseudo-labels",
       .low = tiny,
       .high = 0.99},
      {.key = "spread-quantile",
       .member = &C::spread_quantile,
       .help = "unlabelled photos with a spread above this quantile are dropped",
       .low = 0,
       .high = 1},
      {.key = "w-distil", .member = &C::w_distil, .help = "weight of the distillation loss", .low = 0},
      {.key = "w-distil-feat",
       .member = &C::w_distil_feat,
       .help = "weight of its feature term (teacher: --ema, else --teacher)",
       .low = 0},
      {.key = "ema",
       .member = &C::ema,
       .help = "decay of averaged weights, or off",
       .low = 0,
       .high = 1,
       .or_off = true},
      {.key = "seed", .member = &C::seed, .help = "of every random choice", .low = 0},
      {.key = "threads", .member = &C::threads, .help = "0: all cores", .low = 0, .high = 1024},
      {.key = "workers", .member = &C::workers, .help = "threads that decode photos", .low = 0, .high = 256},
      {.key = "device", .member = &C::device, .help = "auto, cpu, cuda or cuda:N"},
      {.key = "dtype", .member = &C::dtype, .help = "of activations", .choices = {"f32", "bf16"}},
      {.key = "out", .member = &C::out, .help = "folder of the run"},
      {.key = "resume", .member = &C::resume, .help = "go on with the run in --out", .stored = false},
      {.key = "quiet", .member = &C::quiet, .help = "no progress", .stored = false},
  };
  return fields;
}

}  // namespace qfm
