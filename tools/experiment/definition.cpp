#include "tools/experiment/definition.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <tuple>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "engine/base/suggest.h"
#include "train/data/csv.h"

namespace qfm {
namespace {

using nlohmann::json;

struct Key {
  std::string name;
  std::function<void(const json&)> read;
  bool needed = false;
};
template <class T>
Key key(const char* name, T& to) {
  return {name, [&to](const json& value) { value.get_to(to); }};
}
template <class T>
Key needed(const char* name, T& to) {
  return {name, key(name, to).read, true};
}

// Reads the members of a JSON object. Throws Error "WHERE: key: reason" for a key that is none of `keys`, one
// that is needed and not there, and a value that does not fit.
void read_object(const json& object, const std::string& where, const std::vector<Key>& keys) {
  QFM_CHECK(object.is_object(), where, ": not a JSON object");
  std::vector<std::string> names;
  for (const Key& key : keys) {
    names.push_back(key.name);
    const auto found = object.find(key.name);
    QFM_CHECK(found != object.end() || !key.needed, where, ": ", key.name, " is missing");
    if (found == object.end()) continue;
    try {
      key.read(*found);
    } catch (const json::exception&) {
      QFM_FAIL(where, ": ", key.name, ": is ", found->type_name(), ", which does not fit");
    }
  }
  for (const auto& [name, value] : object.items())
    QFM_CHECK(std::find(names.begin(), names.end(), name) != names.end(), where, ": ", shown(name),
              ": unknown key", did_you_mean(name, names));
}

void check_name(const std::string& name, const std::string& where) {
  const bool fine = !name.empty() && name.size() <= 64 && name.find('/') == std::string::npos &&
                    name[0] != '.' &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) { return c >= ' '; });
  QFM_CHECK(fine, where, ": '", shown(name), "' cannot name a folder");
}

ExperimentData parse_data(const json& object, const std::string& where) {
  ExperimentData data;
  json published = json::object();
  std::string scale;
  read_object(object, where,
              {needed("name", data.name), needed("data", data.data), key("scale", scale),
               key("lower-is-better", data.lower_is_better), key("train", data.train), key("test", data.test),
               key("split", data.split), key("published", published)});
  check_name(data.name, where);
  if (!scale.empty()) data.scale = parse_range(scale);
  QFM_CHECK(data.test.empty() || !data.train.empty(), where, ": test needs train: COLUMN=VALUE each");
  QFM_CHECK(data.split > 0 && data.split < 1, where, ": split: ", data.split, " is not inside 0..1");
  for (const auto& [variant, figures] : published.items()) {
    PublishedFigure& figure = data.published[variant];
    read_object(figures, where + ": published: " + variant,
                {key("srcc", figure.srcc), key("plcc", figure.plcc)});
  }
  return data;
}

// The flags of all variants and its own: own flags win.
ExperimentVariant parse_variant(const json& object, const json& common, const std::string& where) {
  ExperimentVariant variant;
  json flags = json::object(), merged = common;
  read_object(object, where, {needed("name", variant.name), key("flags", flags)});
  check_name(variant.name, where);
  QFM_CHECK(flags.is_object(), where, ": flags: not a JSON object of flags");
  merged.update(flags);
  for (const char* own :
       {"data", "root", "fold", "scale", "lower-is-better", "val", "seed", "out", "resume", "protocol"})
    QFM_CHECK(!merged.contains(own), where, ": flags: ", own, " is the experiment's to choose");
  variant.flags = merged.dump();
  merge_config(variant.config, variant.flags, where + ": flags");
  variant.truncated_schedule = truncated_schedule(variant.config);
  return variant;
}

template <class Items>
void check_distinct(const Items& items, const std::string& where) {
  std::set<std::string> names;
  QFM_CHECK(!items.empty(), where, ": none given");
  for (const auto& item : items)
    QFM_CHECK(names.insert(item.name).second, where, ": ", item.name, ": given twice");
}

// A count, which means 0, 1, ..., or a list.
std::vector<int64_t> parse_seeds(const json& value, const std::string& where) {
  std::vector<int64_t> seeds;
  if (value.is_number_integer() && value >= 1 && value <= 1000) {
    seeds.resize(value.get<size_t>());
    std::iota(seeds.begin(), seeds.end(), 0);
    return seeds;
  }
  QFM_CHECK(value.is_array() && !value.empty(), where, ": seeds: a count from 1 to 1000, or a list");
  for (const json& s : value) {
    QFM_CHECK(s.is_number_integer() && s >= 0, where, ": seeds: ", s.dump(), " is no seed");
    seeds.push_back(s.get<int64_t>());
  }
  QFM_CHECK(std::set<int64_t>(seeds.begin(), seeds.end()).size() == seeds.size(), where,
            ": seeds: one is given twice");
  return seeds;
}

Dataset part_of(const ExperimentData& data, const std::string& fold) {
  return load_dataset(data.data,
                      {.fold = fold, .scale = data.scale, .lower_is_better = data.lower_is_better});
}

// Photos of one reference belong together.
const std::string& group_of(const Sample& s) { return s.reference.empty() ? s.name : s.reference; }

// Keeps that share of the groups, the first ones of a random order of the seed's.
void keep_share(Dataset& set, double share, int64_t seed) {
  if (share >= 1) return;
  std::vector<std::string> groups;
  std::set<std::string> kept;
  for (const Sample& s : set.samples)
    if (kept.insert(group_of(s)).second) groups.push_back(group_of(s));
  Rng rng(static_cast<uint64_t>(seed), "label share");
  for (size_t i = groups.size(); i > 1; --i)
    std::swap(groups[i - 1], groups[rng.below(static_cast<uint32_t>(i))]);
  groups.resize(static_cast<size_t>(std::lround(share * static_cast<double>(groups.size()))));
  kept = {groups.begin(), groups.end()};
  std::erase_if(set.samples, [&](const Sample& s) { return !kept.contains(group_of(s)); });
}

}  // namespace

Experiment parse_experiment(std::string_view text, const std::string& name) {
  const json object = json::parse(text, nullptr, false);
  QFM_CHECK(!object.is_discarded(), name, ": not valid JSON");
  Experiment e;
  json data = json::array(), variants = json::array(), common = json::object(), seeds;
  read_object(object, name,
              {needed("name", e.name), needed("data", data), needed("variants", variants),
               needed("seeds", seeds), key("common", common), key("baseline", e.baseline),
               key("protocol", e.protocol), key("crops", e.crops), key("label-shares", e.label_shares)});
  check_name(e.name, name + ": name");
  QFM_CHECK(data.is_array() && variants.is_array(), name, ": data and variants are lists");
  QFM_CHECK(common.is_object(), name, ": common: not a JSON object of flags");
  for (size_t i = 0; i < data.size(); ++i)
    e.data.push_back(parse_data(data[i], concat(name, ": data ", i + 1)));
  for (size_t i = 0; i < variants.size(); ++i)
    e.variants.push_back(parse_variant(variants[i], common, concat(name, ": variant ", i + 1)));
  check_distinct(e.data, name + ": data"), check_distinct(e.variants, name + ": variants");
  e.seeds = parse_seeds(seeds, name);
  if (e.baseline.empty()) e.baseline = e.variants[0].name;
  QFM_CHECK(std::any_of(e.variants.begin(), e.variants.end(), [&](auto& v) { return v.name == e.baseline; }),
            name, ": baseline: '", shown(e.baseline), "' is no variant");
  QFM_CHECK(e.protocol == "clean" || e.protocol == "paper", name, ": protocol: clean or paper");
  for (double share : e.label_shares)
    QFM_CHECK(share > 0 && share <= 1, name, ": label-shares: ", share, " is not above 0 and at most 1");
  QFM_CHECK(!e.label_shares.empty(), name, ": label-shares: none given");
  return e;
}

std::string ExperimentRun::id() const {
  return concat(data->name, "/", variant->name, "/share-", label_share, "/seed-", seed);
}

std::vector<ExperimentRun> runs_of(const Experiment& e) {
  std::vector<ExperimentRun> runs;
  for (int64_t seed : e.seeds)
    for (const auto& data : e.data)
      for (double share : e.label_shares)
        for (const auto& variant : e.variants) runs.push_back({&data, &variant, share, seed});
  return runs;
}

TrainTest split_for(const ExperimentData& data, double label_share, int64_t seed) {
  TrainTest parts;
  if (data.test.empty())
    std::tie(parts.train, parts.test) =
        split_fraction(part_of(data, data.train), 1 - data.split, static_cast<uint64_t>(seed));
  else parts = {part_of(data, data.train), part_of(data, data.test)};
  keep_share(parts.train, label_share, seed);
  for (const Dataset* part : {&parts.train, &parts.test})
    QFM_CHECK(part->samples.size() >= 3, data.name, ": a part of ", part->samples.size(),
              " photos is too small");
  return parts;
}

}  // namespace qfm
