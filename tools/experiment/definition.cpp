#include "tools/experiment/definition.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "engine/base/suggest.h"
#include "train/data/csv.h"

namespace qfm {
namespace {

using nlohmann::json;

// The members of one JSON object, each to be taken once; what is left over is unknown.
class Members {
 public:
  Members(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    QFM_CHECK(object.is_object(), where_, ": not a JSON object");
  }
  // Sets `to` where the key is there.
  template <class T>
  void take(const char* key, T& to) {
    known_.push_back(key);
    if (!object_.contains(key)) return;
    try {
      to = object_.at(key).get<T>();
    } catch (const json::exception&) {
      QFM_FAIL(where_, ": ", key, ": is ", object_.at(key).type_name(), ", which does not fit");
    }
  }
  template <class T>
  void need(const char* key, T& to) {
    QFM_CHECK(object_.contains(key), where_, ": ", key, " is missing");
    take(key, to);
  }
  void finish() const {
    for (const auto& [key, value] : object_.items())
      QFM_CHECK(std::find(known_.begin(), known_.end(), key) != known_.end(), where_, ": ", shown(key),
                ": unknown key", did_you_mean(key, known_));
  }

 private:
  const json& object_;
  const std::string where_;
  std::vector<std::string_view> known_;
};

void check_name(const std::string& name, const std::string& where) {
  const bool fine = !name.empty() && name.size() <= 64 && name.find('/') == std::string::npos &&
                    name[0] != '.' &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) { return c >= ' '; });
  QFM_CHECK(fine, where, ": '", shown(name), "' cannot name a folder");
}

ExperimentData parse_data(const json& object, const std::string& where) {
  ExperimentData data;
  json published = json::object();
  Members m(object, where);
  m.need("name", data.name), m.need("data", data.data), m.take("scale", data.scale);
  m.take("lower-is-better", data.lower_is_better), m.take("train", data.train), m.take("test", data.test);
  m.take("split", data.split), m.take("published", published);
  m.finish();
  check_name(data.name, where);
  if (!data.scale.empty()) parse_range(data.scale);
  QFM_CHECK(data.test.empty() || !data.train.empty(), where, ": test needs train: COLUMN=VALUE each");
  QFM_CHECK(data.split > 0 && data.split < 1, where, ": split: ", data.split, " is not inside 0..1");
  for (const auto& [variant, figures] : published.items()) {
    PublishedFigure figure{variant, {}, {}};
    double srcc = NAN, plcc = NAN;
    Members f(figures, where + ": published: " + variant);
    f.take("srcc", srcc), f.take("plcc", plcc);
    f.finish();
    if (!std::isnan(srcc)) figure.srcc = srcc;
    if (!std::isnan(plcc)) figure.plcc = plcc;
    data.published.push_back(figure);
  }
  return data;
}

// The flags of all variants and its own: own flags win.
ExperimentVariant parse_variant(const json& object, const json& common, const std::string& where) {
  ExperimentVariant variant;
  json flags = json::object(), merged = common;
  Members m(object, where);
  m.need("name", variant.name), m.take("flags", flags);
  m.finish();
  check_name(variant.name, where);
  merged.update(flags);
  for (const char* own :
       {"data", "root", "fold", "scale", "lower-is-better", "val", "seed", "out", "resume", "protocol"})
    QFM_CHECK(!merged.contains(own), where, ": flags: ", own, " is the experiment's to choose");
  variant.flags = merged.dump();
  TrainConfig checked;
  merge_config(checked, variant.flags, where + ": flags");
  variant.truncated_schedule = truncated_schedule(checked);
  return variant;
}

template <class Items>
void check_distinct(const Items& items, const std::string& where) {
  std::set<std::string> names;
  QFM_CHECK(!items.empty(), where, ": none given");
  for (const auto& item : items)
    QFM_CHECK(names.insert(item.name).second, where, ": ", item.name, ": given twice");
}

std::vector<int64_t> parse_seeds(const json& value, const std::string& where) {
  std::vector<int64_t> seeds;
  if (value.is_number_integer()) {
    QFM_CHECK(value >= 1 && value <= 1000, where, ": seeds: a count from 1 to 1000, or a list");
    for (int64_t s = 0; s < value.get<int64_t>(); ++s) seeds.push_back(s);
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

json parse_json(std::string_view text, const std::string& name) {
  try {
    return json::parse(text);
  } catch (const json::exception&) {
    QFM_FAIL(name, ": not valid JSON");
  }
}

Dataset part_of(const ExperimentData& data, const std::string& fold) {
  DatasetOptions options;
  options.fold = fold, options.lower_is_better = data.lower_is_better;
  if (!data.scale.empty()) options.scale = parse_range(data.scale);
  return load_dataset(data.data, options);
}

// The groups of a set (photos of one reference, or single photos) in a random order of the seed's.
std::vector<std::string> shuffled_groups(const Dataset& set, int64_t seed) {
  std::vector<std::string> groups;
  std::set<std::string> seen;
  for (const Sample& s : set.samples)
    if (const auto& key = s.reference.empty() ? s.name : s.reference; seen.insert(key).second)
      groups.push_back(key);
  Rng rng(static_cast<uint64_t>(seed), "label share");
  for (size_t i = groups.size(); i > 1; --i)
    std::swap(groups[i - 1], groups[rng.below(static_cast<uint32_t>(i))]);
  return groups;
}

void keep_share(Dataset& set, double share, int64_t seed) {
  if (share >= 1) return;
  auto groups = shuffled_groups(set, seed);
  groups.resize(static_cast<size_t>(std::lround(share * static_cast<double>(groups.size()))));
  const std::set<std::string> kept(groups.begin(), groups.end());
  std::erase_if(set.samples,
                [&](const Sample& s) { return !kept.contains(s.reference.empty() ? s.name : s.reference); });
}

}  // namespace

Experiment parse_experiment(std::string_view text, const std::string& name) {
  const json object = parse_json(text, name);
  Experiment e;
  json data = json::array(), variants = json::array(), common = json::object(), seeds;
  Members m(object, name);
  m.need("name", e.name), m.need("data", data), m.need("variants", variants), m.need("seeds", seeds);
  m.take("common", common), m.take("baseline", e.baseline), m.take("protocol", e.protocol);
  m.take("crops", e.crops), m.take("label-shares", e.label_shares);
  m.finish();
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
  if (!data.test.empty()) {
    parts = {part_of(data, data.train), part_of(data, data.test)};
  } else {
    auto [train, test] =
        split_fraction(part_of(data, data.train), 1 - data.split, static_cast<uint64_t>(seed));
    parts = {std::move(train), std::move(test)};
  }
  keep_share(parts.train, label_share, seed);
  for (const Dataset* part : {&parts.train, &parts.test})
    QFM_CHECK(part->samples.size() >= 3, data.name, ": a part of ", part->samples.size(),
              " photos is too small");
  return parts;
}

}  // namespace qfm
