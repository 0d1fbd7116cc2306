// Everything that `qfm train` can be told: one table gives the flags, the keys of the config file, their
// defaults, types and limits.
#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "train/objectives/options.h"

namespace qfm {

// Names, meaning and limits are in config_fields(); a field `crops_per_image` is the flag --crops-per-image
// and the key "crops-per-image". Empty text means not given.
struct TrainConfig {
  std::string data, root, fold, split, scale;
  bool lower_is_better = false;
  std::string val, labels = "scaled", init, arch, head, resize;
  int64_t epochs = 9, batch = 16, crops_per_image = 10;
  double lr = 2e-4, weight_decay = 0.05, clip = 5;
  std::string schedule = "deiqt";
  std::optional<double> warmup;  // epochs; without: a third of them, warmup_of()
  std::string protocol = "clean";
  bool select = false;
  Options objectives;  // the flags that objectives declare
  int64_t seed = 0, threads = 0, workers = 1;
  std::string device = "auto", dtype = "f32", out;
  bool resume = false, quiet = false;

  friend bool operator==(const TrainConfig&, const TrainConfig&) = default;
};

struct ConfigField {
  // Where the value lies; OptionValue: in `objectives`, with this standard.
  using Member = std::variant<std::string TrainConfig::*, int64_t TrainConfig::*, double TrainConfig::*,
                              bool TrainConfig::*, std::optional<double> TrainConfig::*, OptionValue>;
  std::string_view key;
  Member member;
  std::string_view help;
  std::vector<std::string_view> choices = {};  // of a text; of a switch: it is typed as --key on|off, not as --key
  double low = std::numeric_limits<double>::lowest(),
         high = std::numeric_limits<double>::max();  // of a number, inclusive
  bool or_off = false;                               // a number for which "off" may be typed: 0
  bool stored = true;   // false: says how to start, not what to compute; not in config.json
  bool sparse = false;  // in config.json only where it is not the standard: keys of older results have no such field
  void (*check)(const std::string& text) = nullptr;  // of a text that is not empty: throws Error
};
const std::vector<ConfigField>& config_fields();

// Sets one field from the text typed after its flag (a switch: "on" or "off"). Throws Error "--epochs: '0' is
// below 1".
void set_flag(TrainConfig& config, const ConfigField& field, const std::string& text);
// Sets the fields of a JSON object. Throws Error "NAME: epoch: unknown key; did you mean 'epochs'?"; also for
// what is not JSON, keys given twice, wrong types and forbidden values. `config` is then unchanged.
void merge_config(TrainConfig& config, std::string_view json, const std::string& name);
void merge_config_file(TrainConfig& config, const std::string& path);
// What no single field shows: --data and --out are given, --protocol paper has --val, ... Throws Error.
void validate(const TrainConfig& config);

// A JSON object with every stored field, in the order of the table. Throws Error for a path that is not
// UTF-8.
std::string to_json(const TrainConfig& config);

// Epochs of linear warm-up: --warmup, else a third of --epochs (published: 3 of 9).
double warmup_of(const TrainConfig& config);
// Whether that warm-up cuts the first step of --schedule short: its results are marked "truncated".
bool truncated_schedule(const TrainConfig& config);

// --val as a number, nullopt where it is empty or names a manifest.
std::optional<double> val_fraction(const TrainConfig& config);

}  // namespace qfm
