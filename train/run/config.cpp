#include "train/run/config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/base/error.h"
#include "engine/base/io.h"
#include "engine/base/suggest.h"
#include "train/data/csv.h"
#include "train/objectives/consistency.h"
#include "train/optim/schedule.h"

namespace qfm {
namespace {

using nlohmann::json, nlohmann::ordered_json;

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

void check_text(const ConfigField& field, const std::string& text) {
  QFM_CHECK(text.find('\0') == std::string::npos, "contains a zero byte");
  if (text.empty()) return;
  std::string listed;
  for (auto choice : field.choices) listed += (listed.empty() ? "" : ", ") + std::string(choice);
  const bool chosen = std::find(field.choices.begin(), field.choices.end(), text) != field.choices.end();
  QFM_CHECK(field.choices.empty() || chosen, "'", shown(text), "' is none of ", listed);
  if (field.check) field.check(text);
}

template <class Number>
void check_number(const ConfigField& field, Number value) {
  QFM_CHECK(
      static_cast<double>(value) >= field.low, value,
      field.low == std::numeric_limits<double>::min() ? " is not above 0" : concat(" is below ", field.low));
  QFM_CHECK(static_cast<double>(value) <= field.high, value, " is above ", field.high);
}

// Limits of one field; the message lacks the field's name.
void check_field(const TrainConfig& config, const ConfigField& field) {
  std::visit(
      Overloaded{[&](std::string TrainConfig::*m) { check_text(field, config.*m); },
                 [](bool TrainConfig::*) {}, [&](int64_t TrainConfig::*m) { check_number(field, config.*m); },
                 [&](double TrainConfig::*m) { check_number(field, config.*m); },
                 [&](std::optional<double> TrainConfig::*m) {
                   if (config.*m) check_number(field, *(config.*m));
                 },
                 [&](const OptionValue&) {
                   std::visit(Overloaded{[&](const std::string& text) { check_text(field, text); },
                                         [](bool) {}, [&](auto number) { check_number(field, number); }},
                              config.objectives.value(field.key));
                 },
                 [](auto) {}},  // a Parsed has been checked
      field.member);
}

bool on_or_off(const std::string& text) {
  QFM_CHECK(text == "on" || text == "off", "'", shown(text), "' is neither on nor off");
  return text == "on";
}

int64_t whole_number(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  QFM_CHECK(error == std::errc() && end == text.data() + text.size(), "'", shown(text),
            "' is not a whole number");
  return value;
}

void set_text(TrainConfig& config, const ConfigField& field, const std::string& text) {
  const bool off = field.or_off && text == "off";
  std::visit(
      Overloaded{[&](std::string TrainConfig::*m) { config.*m = text; },
                 [&](auto m) {  // a Parsed
                   check_text(field, text);
                   config.*m = text;
                 },
                 [&](int64_t TrainConfig::*m) { config.*m = off ? 0 : whole_number(text); },
                 [&](double TrainConfig::*m) { config.*m = off ? 0 : parse_number(text); },
                 [&](std::optional<double> TrainConfig::*m) { config.*m = parse_number(text); },
                 [&](bool TrainConfig::*m) { config.*m = on_or_off(text); },
                 [&](const OptionValue& standard) {
                   config.objectives.set(
                       field.key,
                       std::visit(
                           Overloaded{[&](const std::string&) -> OptionValue { return text; },
                                      [&](bool) -> OptionValue { return on_or_off(text); },
                                      [&](int64_t) -> OptionValue { return off ? 0 : whole_number(text); },
                                      [&](double) -> OptionValue { return off ? 0 : parse_number(text); }},
                           standard));
                 }},
      field.member);
}

void set_json(TrainConfig& config, const ConfigField& field, const json& value) {
  if (field.or_off && value == "off") return set_text(config, field, "off");
  const auto need = [&](bool ok, const char* type) {
    QFM_CHECK(ok, "is ", value.type_name(), ", expected ", type, field.or_off ? " or \"off\"" : "");
  };
  const auto text = [&] {
    need(value.is_string(), "a string");
    return value.get<std::string>();
  };
  const auto whole = [&] {
    need(value.is_number_integer(), "a whole number");
    return whole_number(value.dump());
  };
  const auto number = [&] {
    need(value.is_number(), "a number");
    return value.get<double>();
  };
  const auto flag = [&] {
    need(value.is_boolean(), "true or false");
    return value.get<bool>();
  };
  std::visit(Overloaded{[&](std::string TrainConfig::*m) { config.*m = text(); },
                        [&](auto m) {  // a Parsed
                          const std::string typed = text();
                          check_text(field, typed);
                          config.*m = typed;
                        },
                        [&](int64_t TrainConfig::*m) { config.*m = whole(); },
                        [&](double TrainConfig::*m) { config.*m = number(); },
                        [&](bool TrainConfig::*m) { config.*m = flag(); },
                        [&](const OptionValue& standard) {
                          config.objectives.set(
                              field.key,
                              std::visit(Overloaded{[&](const std::string&) -> OptionValue { return text(); },
                                                    [&](bool) -> OptionValue { return flag(); },
                                                    [&](int64_t) -> OptionValue { return whole(); },
                                                    [&](double) -> OptionValue { return number(); }},
                                         standard));
                        },
                        [&](std::optional<double> TrainConfig::*m) {
                          need(value.is_number() || value.is_null(), "a number or null");
                          config.*m = value.is_null() ? std::nullopt : std::optional(value.get<double>());
                        }},
             field.member);
}

// Runs f; an Error gets `prefix` before its message.
template <class F>
void named(const std::string& prefix, F&& f) {
  try {
    f();
  } catch (const Error& error) {
    QFM_FAIL(prefix, ": ", error.what());
  }
}

json parse_object(std::string_view text, const std::string& name) {
  std::set<std::string> keys;
  const auto refuse_twice = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event != json::parse_event_t::key || depth != 1) return true;
    const auto key = parsed.get<std::string>();
    QFM_CHECK(keys.insert(key).second, name, ": ", shown(key), ": given twice");
    return true;
  };
  json object;
  try {
    object = json::parse(text, refuse_twice);
  } catch (const json::parse_error& error) {
    const auto before = text.substr(0, std::min(error.byte, text.size()));
    QFM_FAIL(name, ": not valid JSON near line ", 1 + std::count(before.begin(), before.end(), '\n'));
  } catch (const json::exception&) {  // a number that no double can hold
    QFM_FAIL(name, ": not valid JSON: a number is out of range");
  }
  QFM_CHECK(object.is_object(), name, ": not a JSON object of flags");
  return object;
}

}  // namespace

void set_flag(TrainConfig& config, const ConfigField& field, const std::string& text) {
  named("--" + std::string(field.key), [&] {
    set_text(config, field, text);
    check_field(config, field);
  });
}

void merge_config(TrainConfig& config, std::string_view text, const std::string& name) {
  const auto& fields = config_fields();
  TrainConfig merged = config;
  const json object = parse_object(text, name);
  for (const auto& [key, value] : object.items()) {
    const auto field =
        std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.key == key; });
    if (field == fields.end()) {
      std::vector<std::string_view> keys;
      for (const auto& known : fields) keys.push_back(known.key);
      QFM_FAIL(name, ": ", shown(key), ": unknown key", did_you_mean(key, keys));
    }
    named(name + ": " + key, [&] {
      set_json(merged, *field, value);
      check_field(merged, *field);
    });
  }
  config = merged;
}

void merge_config_file(TrainConfig& config, const std::string& path) {
  merge_config(config, read_text(path, size_t{1} << 20), path);
}

void validate(const TrainConfig& config) {
  for (const auto& field : config_fields())
    named("--" + std::string(field.key), [&] { check_field(config, field); });
  QFM_CHECK(!config.data.empty(), "--data is missing: a manifest CSV, or NAME:FOLDER");
  QFM_CHECK(!config.out.empty(), "--out is missing: the folder of the run");
  QFM_CHECK(config.protocol != "paper" || config.val->given() || !config.split.empty(),
            "--protocol paper picks the best epoch on --val, or on the test part of --split: give one");
  const Options& o = config.objectives;
  QFM_CHECK(o.number("w-two-views") == 0, "--w-two-views learns from two views of a photo, qfm train gives one");
  const bool matching = o.text("match") != "off", unlabelled = !o.text("unlabelled").empty();
  const bool features = o.number("w-distil-feat") > 0, teacher = !o.text("teacher").empty();
  const bool method = config.select || matching || o.number("w-contrast") > 0 || unlabelled || features;
  QFM_CHECK(!method || config.labels == "scaled",
            "--labels raw: the method's weights and distances are for scaled labels");
  QFM_CHECK(o.whole("adversarial") == 0 || matching, "--adversarial searches the noise of --match: give it");
  check_method(o);
  QFM_CHECK(config.select || o.at_standard("gate"),
            "--gate is of the feature selection head: give --select on");
  QFM_CHECK(!unlabelled || teacher, "--unlabelled needs a --teacher to label it");
  QFM_CHECK(!features || teacher || o.number("ema") > 0,
            "--w-distil-feat needs a teacher: --teacher or --ema");
  QFM_CHECK(!teacher || unlabelled || features,
            "--teacher has nothing to teach: give --unlabelled, or --w-distil-feat");
  QFM_CHECK(o.number("ema") < 1, "--ema: 1 would keep the starting weights for ever");
  QFM_CHECK(!matching || config.epochs >= 2,
            "--match: its memory only fills in the first epoch, --epochs is ", config.epochs);
}

double warmup_of(const TrainConfig& config) {
  return config.warmup.value_or(static_cast<double>(config.epochs) / 3);
}

bool truncated_schedule(const TrainConfig& config) {
  return truncates(*config.schedule, config.epochs, warmup_of(config));
}

namespace {

// Whole numbers without a point, as they were written when there were no others: keys of stored results hang
// on it.
ordered_json json_of(std::optional<double> value) {
  if (!value) return nullptr;
  const double whole = std::nearbyint(*value);
  return whole == *value && std::abs(whole) < 1e15 ? ordered_json(static_cast<int64_t>(whole))
                                                   : ordered_json(*value);
}

bool at_standard(const TrainConfig& config, const ConfigField& field) {
  static const TrainConfig standard;
  return std::visit(
      Overloaded{[&](const OptionValue& value) { return config.objectives.value(field.key) == value; },
                 [&](auto m) { return config.*m == standard.*m; }},
      field.member);
}

}  // namespace

std::string to_json(const TrainConfig& config) {
  ordered_json object;
  for (const auto& field : config_fields()) {
    if (!field.stored || (field.sparse && at_standard(config, field))) continue;
    auto& value = object[std::string(field.key)];
    std::visit(Overloaded{[&](std::optional<double> TrainConfig::*m) { value = json_of(config.*m); },
                          [&](const OptionValue&) {
                            std::visit([&](const auto& x) { value = x; }, config.objectives.value(field.key));
                          },
                          [&](auto m) {
                            if constexpr (requires { (config.*m).text(); }) value = (config.*m).text();
                            else value = config.*m;
                          }},
               field.member);
    if (field.or_off && value == 0) value = "off";
  }
  try {
    return object.dump(2) + "\n";
  } catch (const json::exception&) {
    QFM_FAIL("a path of this run is not UTF-8: it cannot be kept in config.json");
  }
}

}  // namespace qfm
