#include "train/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "engine/base/suggest.h"
#include "train/data/csv.h"
#include "train/data/manifest.h"
#include "train/data/native/native.h"
#include "train/data/split.h"

namespace qfm {
namespace {

// The part of `data` before its first colon, where that may be the name of a set: letters and digits only.
std::string_view set_name(std::string_view data) {
  const size_t colon = data.find(':');
  if (colon == std::string_view::npos) return {};
  const auto name = data.substr(0, colon);
  const bool word = std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c); });
  return word ? name : std::string_view{};
}

const NativeLayout* find_layout(std::string_view name) {
  for (const auto& layout : native_layouts())
    if (layout.name == name) return &layout;
  return nullptr;
}

constexpr std::string_view biq2021 = "biq2021";

// FOLDER:TABLE, split at the last colon.
Dataset load_biq2021(const std::string& rest, const DatasetOptions& options) {
  const size_t colon = rest.rfind(':');
  QFM_CHECK(colon != std::string::npos && colon > 0 && colon + 1 < rest.size(), biq2021, ":", rest,
            ": expected biq2021:FOLDER:TABLE");
  return read_biq2021(rest.substr(0, colon), rest.substr(colon + 1), options);
}

double checked_width(const Dataset& dataset) {
  const double width = dataset.range.high - dataset.range.low;
  QFM_CHECK(width > 0 && std::isfinite(width), dataset.name, ": the label range ", dataset.range.low, "..",
            dataset.range.high, " has no width: give it with --scale LO:HI");
  return width;
}

// A table of the user's own; one that is none may belong to a set of the field.
Dataset load_table(const std::string& path, const DatasetOptions& options) {
  try {
    std::error_code error;
    QFM_CHECK(!std::filesystem::is_directory(path, error), path,
              ": a folder; --data takes a table, or NAME:FOLDER for a set of the field");
    return load_manifest(path, options);
  } catch (const Error& error) {
    const std::string hint = layout_hint(path);
    if (hint.empty()) throw;
    throw Error(error.what() + hint, __FILE__, __LINE__);
  }
}

}  // namespace

void check_dataset_name(const std::string& data) {
  const auto name = set_name(data);
  if (name.empty() || name == biq2021) return;
  std::vector<std::string_view> names{biq2021};
  for (const auto& known : native_layouts()) names.push_back(known.name);
  QFM_CHECK(find_layout(name), data, ": no data set is called '", name, "'", did_you_mean(name, names));
}

Dataset load_dataset(const std::string& data, const DatasetOptions& options) {
  check_dataset_name(data);
  const auto name = set_name(data);
  Dataset set = name.empty()      ? load_table(data, options)
                : name == biq2021 ? load_biq2021(data.substr(name.size() + 1), options)
                                  : load_native(*find_layout(name), data.substr(name.size() + 1), options);
  set.name = data;
  if (set.published) set.higher_is_better = set.published->higher_is_better;
  QFM_CHECK(!options.lower_is_better || !set.published || !set.higher_is_better, data, ": scores of ",
            set.published->name, " are higher for better photos; --lower-is-better is wrong");
  if (options.lower_is_better) set.higher_is_better = false;
  if (!options.split.empty()) assign_split(set, read_split(options.split), options.problems);
  if (!options.part.empty()) set = part_of(set, options.part);
  const size_t least = options.problems ? 0 : 3;
  QFM_CHECK(set.samples.size() >= least, data, ": ", set.samples.size(),
            set.samples.size() == 1 ? " photo" : " photos",
            options.part.empty() ? "" : " in part " + options.part, ", at least 3 are needed");
  return set;
}

double Dataset::scaled(double score) const { return (score - range.low) / checked_width(*this) * 100; }
double Dataset::quality(double score) const { return higher_is_better ? scaled(score) : 100 - scaled(score); }
double Dataset::unscaled(double value) const { return range.low + value / 100 * checked_width(*this); }

std::pair<Dataset, Dataset> split_fraction(const Dataset& dataset, double fraction, uint64_t seed) {
  QFM_CHECK(fraction > 0 && fraction < 1, dataset.name, ": validation fraction ", fraction,
            ", expected inside 0..1");
  std::vector<size_t> group_of;  // each sample's group; groups are numbered as they first occur
  std::map<std::string, size_t> known;
  uint32_t groups = 0;
  for (const auto& sample : dataset.samples) {
    const auto [at, fresh] =
        sample.reference.empty() ? std::pair{known.end(), true} : known.try_emplace(sample.reference, groups);
    group_of.push_back(fresh ? groups++ : at->second);
  }
  QFM_CHECK(groups >= 2, dataset.name, ": ", groups, " independent photos cannot be split in two parts");

  std::vector<uint32_t> order(groups);
  for (uint32_t i = 0; i < groups; ++i) order[i] = i;
  Rng rng(seed, "split");
  for (uint32_t i = groups - 1; i > 0; --i) std::swap(order[i], order[rng.below(i + 1)]);
  const double wanted = std::round(fraction * groups);
  const auto held_out = static_cast<uint32_t>(std::clamp(wanted, 1.0, static_cast<double>(groups - 1)));
  std::vector<bool> validates(groups);
  for (uint32_t i = 0; i < held_out; ++i) validates[order[i]] = true;

  std::pair<Dataset, Dataset> parts{dataset, dataset};
  parts.first.samples.clear(), parts.second.samples.clear();
  for (size_t i = 0; i < dataset.samples.size(); ++i)
    (validates[group_of[i]] ? parts.second : parts.first).samples.push_back(dataset.samples[i]);
  return parts;
}

Range parse_range(std::string_view text) {
  const size_t colon = text.find(':');
  QFM_CHECK(colon != std::string_view::npos, "'", shown(text), "' is not a range LO:HI");
  const Range range{parse_number(text.substr(0, colon)), parse_number(text.substr(colon + 1))};
  QFM_CHECK(range.low < range.high, "'", shown(text), "': the low end is not below the high end");
  QFM_CHECK(std::isfinite(range.high - range.low), "'", shown(text), "': too wide");
  return range;
}

std::pair<std::string, std::string> parse_fold(std::string_view text) {
  const size_t equals = text.find('=');
  QFM_CHECK(equals != std::string_view::npos && equals > 0, "'", shown(text), "' is not COLUMN=VALUE");
  return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

}  // namespace qfm
