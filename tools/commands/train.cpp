// qfm train: fits a model to scored photos.
#include <CLI/CLI.hpp>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>

#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/version.h"
#include "train/objectives/photo_memory.h"
#include "train/optim/schedule.h"
#include "train/run/config.h"
#include "train/run/trainer.h"

namespace qfm {
namespace {

// What was typed for one field.
struct Typed {
  const ConfigField* field;
  CLI::Option* option = nullptr;  // its count: whether the flag was given
  std::string text = "on";        // what stands after it; of a switch: that it is on
  bool given = false;
};
struct TrainOptions {
  std::string config_file;
  std::deque<Typed> typed;  // in the order of config_fields(); CLI11 keeps references into it
};

bool is_switch(const ConfigField& field) {
  return std::holds_alternative<bool TrainConfig::*>(field.member) && field.choices.empty();
}

bool is_text(const ConfigField& field) {
  return visit_value(TrainConfig(), field, [](const auto& value) {
    return std::is_constructible_v<std::decay_t<decltype(value)>, std::string>;
  });
}

std::string help_of(const ConfigField& field) {
  std::string help(field.help);
  for (size_t i = 0; i < field.choices.size(); ++i)
    help +=
        (i == 0 ? " (" : "|") + std::string(field.choices[i]) + (i + 1 == field.choices.size() ? ")" : "");
  const std::string value = visit_value(TrainConfig(), field, [&](const auto& v) -> std::string {
    if constexpr (std::is_same_v<decltype(v), const std::string&>) return v;
    else if constexpr (requires { v.text(); }) return v.text();
    else if constexpr (std::is_same_v<decltype(v), const bool&>)
      return is_switch(field) ? "" : v ? "on" : "off";
    else if constexpr (std::is_same_v<decltype(v), const std::optional<double>&>) return "";
    else return field.or_off && v == 0 ? "off" : format("%g", static_cast<double>(v));
  });
  if (!value.empty()) help += " [" + value + "]";
  return help;
}

std::string shell_word(const std::string& text) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,+@%";
  if (!text.empty() && text.find_first_not_of(plain) == std::string::npos) return text;
  std::string quoted = "'";
  for (char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

// The config file first (of the run itself, to go on with it), then the flags. Also gives the command to type again.
std::pair<TrainConfig, std::string> configuration(const TrainOptions& options) {
  TrainConfig typed, config;
  std::string command = "qfm train";
  const auto apply_flags = [&](TrainConfig& to) {
    for (const Typed& flag : options.typed)
      if (flag.option->count() > 0) as_usage([&] { set_flag(to, *flag.field, flag.text); });
  };
  apply_flags(typed);
  const std::string stored = typed.out + "/config.json";
  if (typed.resume && std::filesystem::exists(stored)) merge_config_file(config, stored);
  if (!options.config_file.empty()) {
    merge_config_file(config, options.config_file);
    command += " --config " + shell_word(options.config_file);
  }
  apply_flags(config);
  as_usage([&] { validate(config); });
  for (const Typed& flag : options.typed)
    if (flag.option->count() > 0 && flag.field->stored) {
      command += " --" + std::string(flag.field->key);
      if (!is_switch(*flag.field)) command += " " + shell_word(flag.text);
    }
  return {config, command};
}

std::string metrics_text(const EpochReport& report) {
  std::string text = format("loss %.4f", report.loss);
  if (!report.validation) return text;
  const auto add = [&](const char* name, std::optional<double> value) {
    if (value) text += format("  %s %.4f", name, *value);
  };
  add("SRCC", report.validation->srcc), add("PLCC", report.validation->plcc);
  return text;
}

// The objectives' statistics of the epoch: "  match rate 0.93 cosine 0.41".
std::string objectives_text(const EpochReport& report) {
  std::string text;
  for (const auto& [name, statistics] : report.objectives.items()) {
    text += "  " + name;
    for (const auto& [key, value] : statistics.items())
      if (value.is_boolean()) text += value.get<bool>() ? " " + key : "";
      else if (value.is_number()) text += " " + key + format(" %.4g", value.get<double>());
  }
  return text;
}

int run_train(const TrainOptions& options) {
  const auto [config, command] = configuration(options);
  CommonOptions common;
  common.device = config.device.text(), common.dtype = config.dtype.text(),
  common.threads = static_cast<int>(config.threads);
  common.quiet = config.quiet;
  apply(common);
  const bool truncated = truncated_schedule(config);
  if (truncated)
    warn(format(
        "qfm: --warmup %g is longer than the first step of the learning rate's curve (%.3g of %lld epochs): "
        "the results are marked \"truncated\"\n",
        warmup_of(config), first_step_epochs(*config.schedule, config.epochs),
        static_cast<long long>(config.epochs)));

  std::optional<Progress> labelling, checking, describing, steps;
  const auto folder = std::filesystem::absolute(config.out + "/").lexically_normal().parent_path();
  TrainHooks hooks{.name = folder.filename().string(), .command = command, .version = version()};
  hooks.labelling = [&](int64_t done, int64_t photos) {
    if (!labelling) labelling.emplace(config.quiet, "photos labelled by the teacher", photos);
    labelling->update(done);
    if (done == photos) labelling.reset();
  };
  hooks.checking = [&](int64_t done, int64_t photos) {
    if (!checking) checking.emplace(config.quiet, "photos checked", photos);
    checking->update(done);
    if (done < photos) return;
    checking.reset();
    stop_on_signals();  // until here there is nothing to save
  };
  hooks.describing = [&](int64_t done, int64_t photos) {
    if (!describing) describing.emplace(config.quiet, "photos described", photos);
    describing->update(done);
    if (done == photos) describing.reset();
  };
  hooks.progress = [&](const TrainProgress& p) {
    if (!steps) steps.emplace(config.quiet, "updates", p.steps, p.step - 1);
    steps->update(p.step, format("epoch %lld of %lld, loss %.4f, lr %.2g, %.1f crops a second",
                                 static_cast<long long>(p.epoch), static_cast<long long>(p.epochs), p.loss,
                                 p.lr, p.images_per_s));
  };
  hooks.epoch_done = [&](const EpochReport& r) {
    if (steps) steps->clear();
    note(config.quiet,
         format("epoch %lld of %lld  %s%s  %s%s\n", static_cast<long long>(r.epoch),
                static_cast<long long>(r.epochs), metrics_text(r).c_str(), objectives_text(r).c_str(),
                duration(r.seconds).c_str(), r.best ? "  best so far" : ""));
    if (r.objectives.contains("match") && r.objectives["match"].value("no_effect", false))
      note(config.quiet,
           format("matching has no effect: noise moves the score by %.2g points in the mean, less than %g\n",
                  r.objectives["match"]["shift"].get<double>(), PhotoMemory::kNoEffect));
  };
  hooks.should_stop = stop_asked;
  const TrainResult result = train(config, hooks);
  steps.reset();
  const auto report = [&](const char* file, const std::optional<EpochReport>& epoch, const char* remark) {
    if (epoch)
      print(format("%s/%s  epoch %lld  %s%s", config.out.c_str(), file, static_cast<long long>(epoch->epoch),
                   metrics_text(*epoch).c_str(), remark) +
            (truncated ? "  (schedule truncated)\n" : "\n"));
  };
  report("last.safetensors", result.last, config.protocol == "paper" ? "" : "  (protocol clean: the result)");
  report("best.safetensors", result.best,
         config.protocol == "paper" ? "  (protocol paper: chosen on the part it is measured on)"
                                    : "  (chosen on the validation part)");
  if (!result.split_sha256.empty()) print("split  train part, SHA-256 " + result.split_sha256 + "\n");
  if (result.finished) return 0;
  warn("qfm: " + config.out + ": stopped after " + std::to_string(result.steps) +
       " updates; qfm train --out " + shell_word(config.out) + " --resume goes on\n");
  return 1;
}

}  // namespace

void add_train(CLI::App& parent, const RegisterAction& on) {
  const auto options = std::make_shared<TrainOptions>();
  CLI::App* app =
      add_subcommand(parent, "train",
                     "Fit a model to scored photos (the recipe of DEIQT).\nDIR gets config.json, log.jsonl, "
                     "last.safetensors, best.safetensors and state.safetensors; --resume goes on, bit for "
                     "bit. A finished run "
                     "leaves model.safetensors too: the last model in half the size (F16).",
                     "qfm train --data scores.csv --init deit_tiny_patch16_224.safetensors --out run");
  app->add_option("--config", options->config_file, "JSON file that may hold any of these flags; flags win")
      ->type_name("FILE");
  for (const ConfigField& field : config_fields()) {
    const std::string name = "--" + std::string(field.key);
    Typed& flag = options->typed.emplace_back(Typed{&field});
    if (is_switch(field)) {
      flag.option = app->add_flag(name, flag.given, help_of(field));
    } else {
      flag.option =
          app->add_option(name, flag.text, help_of(field))->type_name(is_text(field) ? "TEXT" : "N");
    }
  }
  on(app, [options] { return run_train(*options); });
}

}  // namespace qfm
