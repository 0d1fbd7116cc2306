// qfm model info: what a checkpoint is.
#include <CLI/CLI.hpp>
#include <memory>
#include <set>

#include "engine/base/sha256.h"
#include "models/checkpoint.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/results.h"

namespace qfm {
namespace {

struct InfoOptions {
  CommonOptions common;
  std::vector<std::string> paths;
  bool json = false;
};

// Channels that the feature selection head closes whatever it sees: gate below kClosedGate at its neutral
// input. Null where there is no head.
Json closed_channels(const std::string& path, const ModelInfo& info) {
  if (!info.config.select) return nullptr;
  const auto loaded = load_model(path, cpu_device, DType::F32, false);
  const Tensor gate = loaded.model->select->gate_at_mean();
  Json closed = Json::array();
  for (int64_t d = 0; d < gate.numel(); ++d)
    if (gate.data<float>()[d] < kClosedGate) closed.push_back(d);
  double sum = 0;
  for (float g : gate.span<float>()) sum += g;
  return {{"neutral_gate_mean", sum / static_cast<double>(gate.numel())},
          {"closed", closed.size()},
          {"of", gate.numel()},
          {"closed_channels", closed}};
}

Json describe(const std::string& path) {
  refuse_pytorch(path);
  const SafeTensors file = SafeTensors::open(path);
  const ModelInfo info = read_model_info(file);
  int64_t parameters = 0;
  std::set<std::string> dtypes;
  uint64_t bytes = 0;
  for (const auto& [name, entry] : file.entries()) {
    parameters += entry.shape.numel(), bytes += entry.end - entry.begin;
    dtypes.insert(entry.dtype);
  }
  std::string stored;
  for (const auto& dtype : dtypes) stored += (stored.empty() ? "" : " ") + dtype;
  const Json backbone = Json::parse(info.config.backbone->json()), head = Json::parse(info.config.head->json());
  return {{"path", path},
          {"name", info.name},
          {"architecture", info.config.arch},
          {"backbone", backbone},
          {"head", head},
          {"feature_selection", info.config.select},
          {"gate", closed_channels(path, info)},
          {"parameters", parameters},
          {"stored_as", stored},
          {"bytes", bytes},
          {"crop", info.crop},
          {"resize", as_json(info.resize)},
          {"mean", info.mean},
          {"std", info.std},
          {"labels_scaled", info.labels_scaled},
          {"label_low", info.label_low},
          {"label_high", info.label_high},
          {"higher_is_better", info.higher_is_better},
          {"training_set", info.training_set},
          {"command", info.command},
          {"schedule", info.truncated_schedule ? Json("truncated") : Json(nullptr)},
          {"seed", info.seed},
          {"version", info.version},
          {"sha256", sha256_of_file(path)}};
}

void print_text(const Json& info) {
  for (const auto& [key, value] : info.items()) {
    if (value.is_null()) continue;
    std::string name = key, text = value.is_string() ? value.get<std::string>() : to_line(value);
    for (char& c : name) c = c == '_' ? ' ' : c;
    if (!text.empty() && text.back() == '\n') text.pop_back();
    print(format("%-18s %s\n", name.c_str(), one_line(text).c_str()));
  }
}

int model_info(const InfoOptions& options) {
  bool failed = false, first = true;
  for (const auto& path : options.paths) {
    try {
      const Json info = describe(path);
      if (!first && !options.json) print("\n");
      first = false;
      options.json ? print(to_line(info)) : print_text(info);
    } catch (const Error& e) {
      warn(error_line(e.what()));
      failed = true;
    }
  }
  return failed;
}

}  // namespace

void add_model(CLI::App& parent, const RegisterAction& on) {
  CLI::App* model =
      add_subcommand(parent, "model", "Look into checkpoints", "qfm model info model.safetensors");
  model->require_subcommand(1);
  const auto options = std::make_shared<InfoOptions>();
  CLI::App* info =
      add_subcommand(*model, "info",
                     "Print what a checkpoint is: architecture, preprocessing, labels, training, SHA-256; of "
                     "a feature selection "
                     "head the channels that are closed (gate below 0.5) for a photo of average features",
                     "qfm model info model.safetensors");
  info->add_option("FILE", options->paths, "Checkpoints (.safetensors)")->required();
  info->add_flag("--json", options->json, "Print JSON lines, one a file");
  add_common_options(*info, options->common);
  on(info, [options] { return model_info(*options); });
  add_planned(*model, "convert", on);
}

}  // namespace qfm
