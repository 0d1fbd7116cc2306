// qfm model: what a checkpoint is, and the same otherwise.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>

#include "engine/base/sha256.h"
#include "engine/int8_matrix.h"
#include "models/checkpoint.h"
#include "models/convert.h"
#include "models/registry.h"
#include "models/weight_names.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/results.h"
#include "tools/onnx/onnx_model.h"

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

struct Stored {
  int64_t parameters = 0;
  uint64_t bytes = 0;
  std::string dtypes = {};  // "F16 F32"
};

Stored stored_in(const TensorFile& file) {
  Stored stored;
  std::set<std::string> dtypes;
  for (const auto& [name, entry] : file.entries()) {
    stored.parameters += holds_int8_scale(file, name) ? 0 : entry.shape.numel(), stored.bytes += entry.bytes();
    dtypes.insert(entry.dtype);
  }
  for (const auto& dtype : dtypes) stored.dtypes += (stored.dtypes.empty() ? "" : " ") + dtype;
  return stored;
}

// A backbone under other programs' names.
Json describe_backbone(const TensorFile& file, const ModelConfig& config) {
  const Stored stored = stored_in(file);
  return {{"path", file.path()},
          {"name", "a backbone of timm, torchvision or Hugging Face: scores nothing, `qfm train --init` and `qfm embed` take it"},
          {"architecture", config.arch},
          {"backbone", Json::parse(config.backbone->json())},
          {"parameters", stored.parameters},
          {"stored_as", stored.dtypes},
          {"bytes", stored.bytes},
          {"sha256", sha256_of_file(file.path())}};
}

Json describe(const std::string& path) {
  const TensorFile file = open_weights(path);
  if (!file.metadata().count("qfm"))
    if (const auto config = stored_config(file)) return describe_backbone(file, *config);
  const ModelInfo info = read_model_info(file);
  const Stored stored = stored_in(file);
  const Json backbone = Json::parse(info.config.backbone->json()), head = Json::parse(info.config.head->json());
  return {{"path", path},
          {"name", info.name},
          {"architecture", info.config.arch},
          {"backbone", backbone},
          {"head", head},
          {"feature_selection", info.config.select},
          {"gate", closed_channels(path, info)},
          {"parameters", stored.parameters},
          {"stored_as", stored.dtypes},
          {"bytes", stored.bytes},
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

struct ConvertOptions {
  CommonOptions common;
  std::string from, to, dtype, kind, grid;
  int64_t patch = 0;
};

std::optional<WeightsAs> weights_as(const std::string& dtype) {
  if (dtype.empty()) return std::nullopt;
  if (dtype == "f32") return WeightsAs::F32;
  if (dtype == "bf16") return WeightsAs::BF16;
  if (dtype == "f16") return WeightsAs::F16;
  if (dtype == "int8") return WeightsAs::Int8;
  throw UsageError("--dtype " + dtype + ": use f32, bf16, f16 or int8");
}

// of --to, but for onnx.
std::optional<Conversion::Names> names_of(const std::string& kind) {
  if (kind.empty()) return std::nullopt;
  if (kind == "qfm") return Conversion::Names::Ours;
  if (kind == "timm") return Conversion::Names::Timm;
  throw UsageError("--to " + kind + ": use qfm, timm or onnx");
}

// "HxW" of --grid.
void read_grid(const std::string& text, Conversion& conversion) {
  int end = 0;
  int rows = 0, cols = 0;
  const bool read = std::sscanf(text.c_str(), "%4dx%4d%n", &rows, &cols, &end) == 2;
  if (!read || end != static_cast<int>(text.size()) || rows < 1 || cols < 1)
    throw UsageError("--grid " + text + ": give patches down and across, as in 14x14");
  conversion.rows = rows, conversion.cols = cols;
}

void convert_to_onnx(const ConvertOptions& options) {
  if (extension_of(options.to) != ".onnx") throw UsageError(options.to + ": --to onnx writes an .onnx");
  if (!options.dtype.empty() && options.dtype != "f32")
    throw UsageError("--dtype " + options.dtype + ": --to onnx writes f32");
  if (options.patch || !options.grid.empty()) throw UsageError("--patch and --grid: before --to onnx, not with it");
  write_onnx(options.from, options.to);
}

void convert_to_safetensors(const ConvertOptions& options) {
  Conversion conversion{names_of(options.kind), weights_as(options.dtype), options.patch, 0, 0};
  if (!options.grid.empty()) read_grid(options.grid, conversion);
  if (extension_of(options.to) != ".safetensors")
    throw UsageError(options.to + ": the file to write is a .safetensors, or with --to onnx an .onnx");
  convert_model(options.from, options.to, conversion);
}

int model_convert(const ConvertOptions& options) {
  const bool onnx = options.kind.empty() ? extension_of(options.to) == ".onnx" : options.kind == "onnx";
  onnx ? convert_to_onnx(options) : convert_to_safetensors(options);
  note(options.common.quiet, format("%s: %lld bytes\n", options.to.c_str(),
                                    static_cast<long long>(std::filesystem::file_size(options.to))));
  return 0;
}

void add_convert(CLI::App& model, const RegisterAction& on) {
  const auto options = std::make_shared<ConvertOptions>();
  CLI::App* app = add_subcommand(
      model, "convert",
      "Write a checkpoint in another type, under other names, or for other patches. IN is QFM's, timm's, torchvision's "
      "or Hugging Face's (ViT, DINOv2): .safetensors, or .pth and .bin, of which nothing is executed",
      "qfm model convert model.safetensors small.safetensors --dtype int8");
  app->add_option("IN", options->from, "Checkpoint (.safetensors, .pth, .bin)")->required();
  app->add_option("OUT", options->to, "The file to write (.safetensors, .onnx)")->required();
  app->add_option("--dtype", options->dtype,
                  "f32, bf16, f16, or int8: matrices in eight bits with a scale a row, a quarter of f32's size; its "
                  "scores are those of --dtype int8 on IN, bit for bit [as in IN]")
      ->type_name("TYPE");
  app->add_option("--to", options->kind,
                  "Names of the tensors: qfm, or timm, under which a quality head goes along as qfm.* and comes back "
                  "[qfm for QFM's files, timm for others']; or onnx: the whole model, from `pixels` (crops, 3, H, W), "
                  "RGB from 0 to 255, to `score` (crops), 0 to 100, and `members`")
      ->type_name("KIND");
  app->add_option("--patch", options->patch, "Side of a ViT's patches, pixels; its grid stays (FlexiViT's resampling)")
      ->check(CLI::Range(1, 256).description(""))
      ->type_name("N");
  app->add_option("--grid", options->grid, "Patches of a ViT, down and across: its position embedding is resampled")
      ->type_name("HxW");
  add_common_options(*app, options->common);
  on(app, [options] { return model_convert(*options); });
}

}  // namespace

void add_model(CLI::App& parent, const RegisterAction& on) {
  CLI::App* model =
      add_subcommand(parent, "model", "Look into checkpoints and convert them", "qfm model info model.safetensors");
  model->require_subcommand(1);
  const auto options = std::make_shared<InfoOptions>();
  CLI::App* info =
      add_subcommand(*model, "info",
                     "Print what a checkpoint is: architecture, preprocessing, labels, training, SHA-256; of "
                     "a feature selection "
                     "head the channels that are closed (gate below 0.5) for a photo of average features",
                     "qfm model info model.safetensors");
  info->add_option("FILE", options->paths, "Checkpoints (.safetensors, .pth, .bin)")->required();
  info->add_flag("--json", options->json, "Print JSON lines, one a file");
  add_common_options(*info, options->common);
  on(info, [options] { return model_info(*options); });
  add_convert(*model, on);
}

}  // namespace qfm
