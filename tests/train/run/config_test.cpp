// The flags of a training run, their config file, and seeded damage to it.
#include "train/run/config.h"

#include <array>
#include <fstream>

#include "engine/base/io.h"
#include "engine/base/rng.h"
#include "tests/support.h"

using namespace qfm;
using test::contains, test::message_of;

namespace {

const ConfigField& field(std::string_view key) {
  for (const auto& f : config_fields())
    if (f.key == key) return f;
  FAIL("no field " << std::string(key));
  return config_fields()[0];
}

std::string flag_refusal(std::string_view key, const std::string& text) {
  TrainConfig config;
  return message_of([&] { set_flag(config, field(key), text); });
}

std::string merge_refusal(const std::string& json) {
  TrainConfig config;
  const auto message = message_of([&] { merge_config(config, json, "c.json"); });
  CHECK(message.starts_with("c.json: "));
  CHECK(config == TrainConfig{});
  return message;
}

}  // namespace

TEST_CASE("the defaults are DEIQT's recipe and pass their own limits") {
  TrainConfig config;
  CHECK(contains(message_of([&] { validate(config); }), "--data is missing"));
  config.data = "labels.csv";
  CHECK(contains(message_of([&] { validate(config); }), "--out is missing"));
  config.out = "run";
  CHECK_NOTHROW(validate(config));
  config.protocol = "paper";
  CHECK(contains(message_of([&] { validate(config); }), "--val"));
  config.val = "0.2";
  CHECK_NOTHROW(validate(config));
  config.batch = 0;
  CHECK(message_of([&] { validate(config); }) == "--batch: 0 is below 1");
}

TEST_CASE("a configuration survives its JSON") {
  TrainConfig config;
  for (const auto& [key, text] :
       std::vector<std::pair<const char*, const char*>>{{"data", "größe \"x\"/labels.csv"},
                                                        {"fold", "fold=train"},
                                                        {"scale", "0:1"},
                                                        {"lower-is-better", "on"},
                                                        {"val", "0.125"},
                                                        {"labels", "raw"},
                                                        {"init", "a.safetensors"},
                                                        {"arch", "vit-tiny"},
                                                        {"epochs", "3"},
                                                        {"batch", "32"},
                                                        {"crops-per-image", "5"},
                                                        {"lr", "1.1e-4"},
                                                        {"weight-decay", "0"},
                                                        {"clip", "0.3"},
                                                        {"schedule", "cosine"},
                                                        {"warmup", "0"},
                                                        {"protocol", "paper"},
                                                        {"select", "on"},
                                                        {"match", "random"},
                                                        {"adversarial", "off"},
                                                        {"memory", "7"},
                                                        {"tau-q", "0.1"},
                                                        {"tau-s", "0.5"},
                                                        {"a-max", "0.2"},
                                                        {"w-cons", "2"},
                                                        {"w-feat", "3"},
                                                        {"w-sel", "4"},
                                                        {"w-contrast", "5"},
                                                        {"teacher", "t.safetensors"},
                                                        {"unlabelled", "photos"},
                                                        {"w-distil", "6"},
                                                        {"w-distil-feat", "7"},
                                                        {"ema", "off"},
                                                        {"seed", "9007199254740993"},
                                                        {"threads", "2"},
                                                        {"device", "cuda:1"},
                                                        {"dtype", "bf16"},
                                                        {"out", "run"}})
    set_flag(config, field(key), text);
  CHECK(config.seed == 9007199254740993);
  TrainConfig read;
  merge_config(read, to_json(config), "c.json");
  CHECK(read == config);
  CHECK(to_json(read) == to_json(config));
  CHECK(read.val->fraction == 0.125);
  CHECK(contains(to_json(config), "\"adversarial\": \"off\""));
  CHECK(contains(to_json(config), "\"warmup\": 0,"));
  CHECK(contains(to_json(TrainConfig{}), "\"warmup\": null,"));
  CHECK_FALSE(contains(to_json(config), "resume"));
  config.data = "\xFF.csv";
  CHECK(contains(message_of([&] { to_json(config); }), "not UTF-8"));
}

TEST_CASE("the warm-up is a third of the epochs unless told, also a fraction of one") {
  TrainConfig config;
  CHECK(warmup_of(config) == 3);
  merge_config(config, R"({"epochs": 5})", "c.json");
  CHECK(warmup_of(config) == 5.0 / 3);
  CHECK_FALSE(truncated_schedule(config));
  set_flag(config, field("warmup"), "3");
  CHECK(truncated_schedule(config));
  merge_config(config, R"({"warmup": 1.5})", "c.json");
  CHECK(warmup_of(config) == 1.5);
  CHECK(contains(to_json(config), "\"warmup\": 1.5"));
  merge_config(config, R"({"warmup": null})", "c.json");
  CHECK(config.warmup == std::nullopt);
}

TEST_CASE("a config file changes only what it holds") {
  const test::TemporaryFolder folder;
  write_file(folder / "c.json", R"({"lr": 1, "quiet": true})");
  TrainConfig config;
  config.batch = 7;
  merge_config_file(config, folder / "c.json");
  CHECK(config.lr == 1);
  CHECK(config.quiet);
  CHECK(config.batch == 7);
  CHECK(contains(message_of([&] { merge_config_file(config, folder / "none.json"); }),
                 "none.json: No such file"));
}

TEST_CASE("values that make no sense are refused with the flag's name") {
  for (const auto& [key, text, reason] : std::vector<std::array<std::string, 3>>{
           {"epochs", "0", "0 is below 1"},
           {"epochs", "9.5", "'9.5' is not a whole number"},
           {"epochs", "", "whole number"},
           {"epochs", "99999999999999999999", "whole number"},
           {"batch", "-1", "-1 is below 1"},
           {"lr", "0", "not above 0"},
           {"lr", "nan", "'nan' is not a number"},
           {"lr", "inf", "not a number"},
           {"lr", "-1", "-1 is not above 0"},
           {"warmup", "-0.5", "-0.5 is below 0"},
           {"warmup", "third", "'third' is not a number"},
           {"clip", "0", "not above 0"},
           {"weight-decay", "2", "2 is above 1"},
           {"threads", "1025", "above 1024"},
           {"schedule", "step", "'step' is none of deiqt, cosine, constant"},
           {"arch", "vit-huge", "is none of vit-tiny"},
           {"select", "yes", "'yes' is neither on nor off"},
           {"val", "1.5", "neither inside 0..1 nor a manifest"},
           {"scale", "1:0", "low end"},
           {"fold", "train", "not COLUMN=VALUE"},
           {"device", "gpu", "is none of auto"},
           {"device", "cuda:", "is none of auto"},
           {"dtype", "int8", "is for scoring"},
           {"data", "life:x", "did you mean 'live'?"},
           {"ema", "1.5", "above 1"},
           {"pseudo-ratio", "0", "not above 0"}}) {
    const auto message = flag_refusal(key, text);
    CAPTURE(message);
    CHECK(message.starts_with("--" + key + ": "));
    CHECK(contains(message, reason));
  }
  CHECK(flag_refusal("match", "off").empty());
  CHECK(flag_refusal("adversarial", "off").empty());
  CHECK(flag_refusal("val", "val.csv").empty());
}

TEST_CASE("malformed config files are refused with file and key") {
  CHECK(merge_refusal(R"({"epoch": 3})") == "c.json: epoch: unknown key; did you mean 'epochs'?");
  CHECK(contains(merge_refusal(R"({"crops_per_image": 3})"), "did you mean 'crops-per-image'?"));
  CHECK(merge_refusal(R"({"zzzzzzzz": 3})") == "c.json: zzzzzzzz: unknown key");
  CHECK(merge_refusal(R"({"epochs": "3"})") == "c.json: epochs: is string, expected a whole number");
  CHECK(contains(merge_refusal(R"({"epochs": 3.0})"), "epochs: is number, expected a whole number"));
  CHECK(contains(merge_refusal(R"({"epochs": 18446744073709551615})"), "epochs: "));
  CHECK(contains(merge_refusal(R"({"lr": null})"), "lr: is null, expected a number"));
  CHECK(contains(merge_refusal(R"({"lr": 1e999})"), "not valid JSON"));
  CHECK(contains(merge_refusal(R"({"ema": "on"})"), "expected a number or \"off\""));
  CHECK(contains(merge_refusal(R"({"data": ["a.csv"]})"), "data: is array, expected a string"));
  CHECK(contains(merge_refusal(R"({"quiet": "on"})"), "quiet: is string, expected true or false"));
  CHECK(contains(merge_refusal(R"({"data": "a\u0000b"})"), "zero byte"));
  CHECK(contains(merge_refusal(R"({"batch": 1, "batch": 2})"), "batch: given twice"));
  CHECK(contains(merge_refusal(R"({"batch": 4, "epochs": 0})"), "epochs: 0 is below 1"));
  CHECK(contains(merge_refusal("{\n\n\"batch\": }"), "not valid JSON near line 3"));
  CHECK(contains(merge_refusal(R"({"a\nb": 1})"), "a?b: unknown key"));
  for (const char* text : {"", "[]", "3", "\"x\"", "{", "{} {}", "{\"batch\": 3,}", "\xFF"})
    merge_refusal(text);
  merge_refusal(std::string(200000, '['));
}

TEST_CASE("damaged config files are read or refused, never worse") {
  const std::string whole = to_json(TrainConfig{}), alphabet = "{}[]\",:\\0-.eE9utn\n\xFF ";
  Rng rng(13, "damage");
  int read = 0, refused = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string text = whole;
    if (rng.below(4) == 0) text.resize(rng.below(static_cast<uint32_t>(text.size())));
    for (uint32_t edits = rng.below(4); edits > 0 && !text.empty(); --edits) {
      const auto at = rng.below(static_cast<uint32_t>(text.size()));
      const char c = alphabet[rng.below(static_cast<uint32_t>(alphabet.size()))];
      if (rng.below(2)) text[at] = c;
      else text.insert(at, 1, c);
    }
    TrainConfig config;
    const auto message = message_of([&] {
      merge_config(config, text, "c.json");
      config.data = "labels.csv", config.out = "run";
      validate(config);
      to_json(config);
      ++read;
    });
    if (message.empty()) continue;
    ++refused;
    // The file's fault, or that of flags that are each well but do not fit together.
    const bool named = message.starts_with("c.json: ") || message.starts_with("--");
    CHECK_MESSAGE(named, message);
  }
  CHECK(read > 0);
  CHECK(refused > 0);
  MESSAGE("damaged config files: " << read << " read, " << refused << " refused");
}
