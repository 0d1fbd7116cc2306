#include "tools/experiment/definition.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "engine/base/error.h"
#include "engine/base/suggest.h"
#include "train/data/csv.h"

namespace qfm {
namespace {

using nlohmann::json;

// `standard` with the members of `given` in its own's place. Throws Error for one that it lacks or has of another type.
json merged(json standard, const json& given, const std::string& where) {
  QFM_CHECK(given.is_object(), where, ": not a JSON object");
  std::vector<std::string> names;
  for (const auto& [name, value] : standard.items()) names.push_back(name);
  for (const auto& [name, value] : given.items()) {
    QFM_CHECK(standard.contains(name), where, ": ", shown(name), ": unknown key", did_you_mean(name, names));
    const std::string expected = standard[name].type_name();
    QFM_CHECK(expected == "null" || expected == value.type_name(), where, ": ", name, ": is ", value.type_name(),
              ", expected ", expected);
    standard[name] = value;
  }
  return standard;
}

// Names are those of folders, each given once.
template <class Items>
void check_names(const Items& items, const std::string& where) {
  std::set<std::string> names;
  QFM_CHECK(!items.empty(), where, ": none given");
  for (const auto& item : items) {
    const std::string& name = item.name;
    const bool fine = !name.empty() && name.size() <= 64 && name.find('/') == std::string::npos && name[0] != '.' &&
                      std::all_of(name.begin(), name.end(), [](unsigned char c) { return c >= ' '; });
    QFM_CHECK(fine, where, ": '", shown(name), "' cannot name a folder");
    QFM_CHECK(names.insert(name).second, where, ": ", name, ": given twice");
  }
}

ExperimentData parse_data(const json& given, const std::string& where) {
  const json object = merged({{"name", ""}, {"data", ""}, {"scale", ""}, {"lower-is-better", false}, {"train", ""},
                              {"test", ""}, {"split", ExperimentData().split}, {"published", json::object()}},
                             given, where);
  ExperimentData data{object["name"], object["data"], parse_scale_flag(object["scale"]), object["lower-is-better"],
                      object["train"], object["test"], object["split"]};
  QFM_CHECK(!data.data.empty(), where, ": data is missing");
  QFM_CHECK(data.test.empty() || !data.train.empty(), where, ": test needs train: COLUMN=VALUE each");
  QFM_CHECK(data.split > 0 && data.split < 1, where, ": split: ", data.split, " is not inside 0..1");
  for (const auto& [variant, figures] : object["published"].items()) {
    merged({{"srcc", 0}, {"plcc", 0}}, figures, where + ": published: " + variant);
    figures.get_to(data.published[variant]);
  }
  return data;
}

ExperimentVariant parse_variant(const json& given, json flags, const std::string& where) {
  const json object = merged({{"name", ""}, {"flags", json::object()}}, given, where);
  flags.update(object["flags"]);  // its own flags win
  for (const char* own :
       {"data", "root", "fold", "scale", "lower-is-better", "val", "seed", "out", "resume", "protocol"})
    QFM_CHECK(!flags.contains(own), where, ": flags: ", own, " is the experiment's to choose");
  ExperimentVariant variant{object["name"], {}};
  merge_config(variant.config, flags.dump(), where + ": flags");
  return variant;
}

// A count, which means 0, 1, ..., or a list.
std::vector<int64_t> parse_seeds(const json& given, const std::string& where) {
  std::set<int64_t> distinct;
  std::vector<int64_t> seeds;
  if (given.is_number_unsigned() && given <= 1000)
    for (int64_t seed = 0; seed < given; ++seed) seeds.push_back(seed);
  for (const json& seed : given.is_array() ? given : json::array())
    if (seed.is_number_unsigned() && distinct.insert(seed.get<int64_t>()).second) seeds.push_back(seed);
  QFM_CHECK(!seeds.empty() && (!given.is_array() || seeds.size() == given.size()), where,
            ": seeds: a count from 1 to 1000, or a list without repetition");
  return seeds;
}

}  // namespace

Experiment parse_experiment(std::string_view text, const std::string& name) {
  const json given = json::parse(text, nullptr, false);
  QFM_CHECK(!given.is_discarded(), name, ": not valid JSON");
  Experiment e;
  const json object =
      merged({{"name", ""}, {"data", json::array()}, {"common", json::object()}, {"variants", json::array()},
              {"baseline", ""}, {"seeds", nullptr}, {"label-shares", e.label_shares}, {"protocol", e.protocol},
              {"crops", e.crops}},
             given, name);
  object["name"].get_to(e.name), object["baseline"].get_to(e.baseline);
  object["protocol"].get_to(e.protocol), object["crops"].get_to(e.crops);
  for (const json& d : object["data"]) e.data.push_back(parse_data(d, concat(name, ": data ", e.data.size() + 1)));
  for (const json& v : object["variants"])
    e.variants.push_back(parse_variant(v, object["common"], concat(name, ": variant ", e.variants.size() + 1)));
  check_names(e.data, name + ": data"), check_names(e.variants, name + ": variants");
  e.seeds = parse_seeds(object["seeds"], name);
  for (const json& share : object["label-shares"])
    QFM_CHECK(share.is_number() && share > 0 && share <= 1, name, ": label-shares: ", share, " is not in (0, 1]");
  object["label-shares"].get_to(e.label_shares);
  QFM_CHECK(!e.label_shares.empty(), name, ": label-shares: none given");
  if (e.baseline.empty()) e.baseline = e.variants[0].name;
  QFM_CHECK(std::any_of(e.variants.begin(), e.variants.end(), [&](auto& v) { return v.name == e.baseline; }), name,
            ": baseline: '", shown(e.baseline), "' is no variant");
  QFM_CHECK(e.protocol == "clean" || e.protocol == "paper", name, ": protocol: clean or paper");
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
  const auto rows = [&](const std::string& fold) {
    return load_dataset(data.data, {.fold = fold, .scale = data.scale, .lower_is_better = data.lower_is_better});
  };
  const auto drawn_by = static_cast<uint64_t>(seed);
  TrainTest parts;
  if (data.test.empty()) std::tie(parts.train, parts.test) = split_fraction(rows(data.train), 1 - data.split, drawn_by);
  else parts = {rows(data.train), rows(data.test)};
  if (label_share < 1) parts.train = split_fraction(parts.train, label_share, drawn_by).second;
  for (const Dataset* part : {&parts.train, &parts.test})
    QFM_CHECK(part->samples.size() >= 3, data.name, ": a part of ", part->samples.size(), " photos is too small");
  return parts;
}

}  // namespace qfm
