// Every setting of `qfm train`: one table gives the flags, the keys of the config file, their
// defaults, types and limits.
#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"
#include "models/preprocessing.h"
#include "train/data/dataset.h"
#include "train/objectives/options.h"
#include "train/optim/schedule.h"

namespace qfm {

// A flag whose text stands for something else: parsed once, where it is set, and kept as typed for
// config.json. Setting it throws what `parse` throws.
template <auto parse>
class Parsed {
 public:
  Parsed(std::string text = {}) : text_(std::move(text)), value_(parse(text_)) {}
  Parsed(const char* text) : Parsed(std::string(text)) {}
  const std::string& text() const { return text_; }
  const auto& operator*() const { return value_; }
  const auto* operator->() const { return &value_; }
  friend bool operator==(const Parsed& a, const Parsed& b) { return a.text_ == b.text_; }

 private:
  std::string text_;
  decltype(parse(std::string())) value_;
};

// --val, --calibrate: a fraction of --data, a manifest, or neither.
struct Validation {
  std::optional<double> fraction;
  std::string manifest;
  bool given() const { return fraction || !manifest.empty(); }
};

// Throw Error without the flag's name. Empty text is nullopt for a scale and a resize, neither for --val.
std::optional<Range> parse_scale_flag(const std::string& text);
std::optional<Resize> parse_resize_flag(const std::string& text);
Validation parse_val_flag(const std::string& text);
ScheduleKind parse_schedule_flag(const std::string& text);
DeviceRequest parse_device_flag(const std::string& text);
std::optional<DType> parse_dtype_flag(const std::string& text);  // nullopt: auto

// Names, meaning and limits are in config_fields(); a field `crops_per_image` is the flag --crops-per-image
// and the key "crops-per-image". Empty text means not given.
struct TrainConfig {
  std::string data, root, image_column, score_column, fold, split;
  Parsed<parse_scale_flag> scale;
  bool lower_is_better = false;
  Parsed<parse_val_flag> val, calibrate;
  std::string labels = "scaled", init, arch, head;
  Parsed<parse_resize_flag> resize;
  int64_t epochs = 9, batch = 16, crops_per_image = 10;
  double lr = 2e-4, weight_decay = 0.05, clip = 5, average = 0;
  Parsed<parse_schedule_flag> schedule = "deiqt";
  std::optional<double> warmup;  // epochs; without: a third of them, warmup_of()
  std::string protocol = "clean";
  bool select = false;
  Options objectives;  // the flags that objectives declare
  int64_t seed = 0, threads = 0, workers = 1;
  Parsed<parse_device_flag> device = "auto";
  Parsed<parse_dtype_flag> dtype = "auto";
  std::string out;
  bool resume = false, quiet = false;

  friend bool operator==(const TrainConfig&, const TrainConfig&) = default;
};

struct ConfigField {
  template <class... T>
  using MemberOf = std::variant<OptionValue, T TrainConfig::*...>;
  // Where the value lies; OptionValue: in `objectives`, with this standard.
  using Member = MemberOf<std::string, int64_t, double, bool, std::optional<double>, Parsed<parse_scale_flag>,
                          Parsed<parse_val_flag>, Parsed<parse_resize_flag>, Parsed<parse_schedule_flag>,
                          Parsed<parse_device_flag>, Parsed<parse_dtype_flag>>;
  std::string_view key;
  Member member;
  std::string_view help;
  // The texts that may be typed; a switch that has them is typed as --key on|off, not as --key.
  std::vector<std::string_view> choices = {};
  // Limits of a number, inclusive.
  double low = std::numeric_limits<double>::lowest(), high = std::numeric_limits<double>::max();
  bool or_off = false;  // a number for which "off" may be typed: 0
  bool stored = true;   // false: how to start, not what to compute; not in config.json
  // In config.json only where it is not the standard: keys of older results have no such field.
  bool sparse = false;
  // Throws Error for a text, not empty, that will not do.
  void (*check)(const std::string& text) = nullptr;
};
const std::vector<ConfigField>& config_fields();
// f(value) of a field, whatever its type.
template <class F>
decltype(auto) visit_value(const TrainConfig& config, const ConfigField& field, F&& f) {
  return std::visit(
      [&](const auto& member) {
        if constexpr (std::is_member_pointer_v<std::decay_t<decltype(member)>>) return f(config.*member);
        else return std::visit(f, config.objectives.value(field.key));
      },
      field.member);
}

// Sets one field from the text typed after its flag (a switch: "on" or "off"). Throws Error "--epochs: '0' is
// below 1".
void set_flag(TrainConfig& config, const ConfigField& field, const std::string& text);
// Sets the fields of a JSON object. Throws Error "NAME: epoch: unknown key; did you mean 'epochs'?"; also for
// what is not JSON, keys given twice, wrong types and forbidden values. `config` is then unchanged.
void merge_config(TrainConfig& config, std::string_view json, const std::string& name);
void merge_config_file(TrainConfig& config, const std::string& path);
// What no single field shows: --data and --out are given, --protocol paper has --val, ... Throws Error.
void validate(const TrainConfig& config);

// --dtype auto becomes what it stands for.
void choose_dtype(TrainConfig& config, Device device);

// A JSON object with every stored field, in the order of the table. Throws Error for a path that is not UTF-8.
std::string to_json(const TrainConfig& config);

// Epochs of linear warm-up: --warmup, else a third of --epochs (published: 3 of 9).
double warmup_of(const TrainConfig& config);
// Whether that warm-up cuts the first step of --schedule short: its results are marked "truncated".
bool truncated_schedule(const TrainConfig& config);

}  // namespace qfm
