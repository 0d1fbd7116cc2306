// The options that subcommands share.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "engine/base/cpu.h"
#include "engine/base/threads.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/version.h"

namespace qfm {
namespace {

constexpr const char* kShippedModel = "qfm-tiny.safetensors";

Device checked_device(const CommonOptions& options) {
  const auto requested = device_request(options.device);
  if (!requested) throw UsageError("--device " + options.device + ": use auto, cpu, cuda or cuda:N");
  const ChosenDevice chosen = choose_device(*requested);
  if (!chosen.remark.empty()) note(options.quiet, "qfm: " + chosen.remark + "\n");
  return chosen.device;
}

}  // namespace

CLI::App* add_subcommand(CLI::App& parent, const std::string& name, const std::string& description,
                         const std::string& example) {
  CLI::App* app = parent.add_subcommand(name, description);
  if (!example.empty()) app->footer("\nExample:\n  " + example);
  app->set_version_flag("--version", version_text, "Print version, commit and backends, and exit");
  return app;
}

void add_common_options(CLI::App& app, CommonOptions& options) {
  app.add_option("--threads", options.threads, "Threads to use; 0: all cores this process may use")
      ->check(CLI::Range(0, 1024).description(""))
      ->type_name("N");
  app.add_option("--seed", options.seed, "Seed of everything random (default 0)")
      ->check([](const std::string& text) { return text.starts_with('-') ? "is negative" : ""; })
      ->type_name("N");
  app.add_flag("--quiet", options.quiet, "Print results and errors only");
}

void add_device_options(CLI::App& app, CommonOptions& options) {
  app.add_option("--device", options.device, "auto, cpu or cuda[:n] (default auto)")->type_name("DEVICE");
  app.add_option("--dtype", options.dtype, "Arithmetic: auto, f32, bf16 or int8 (default auto)")->type_name("TYPE");
}

void add_model_option(CLI::App& app, CommonOptions& options) {
  app.add_option("--model", options.model, "Checkpoint, .safetensors or .pth (default: QFM_MODEL, else the model shipped with qfm)")
      ->type_name("FILE");
}

std::optional<DType> asked_dtype(const CommonOptions& options) {
  if (options.dtype == "auto") return std::nullopt;
  for (const DType dtype : {DType::F32, DType::BF16, DType::I8})
    if (options.dtype == flag_of(dtype)) return dtype;
  throw UsageError("--dtype " + options.dtype + ": use auto, f32, bf16 or int8");
}

const char* flag_of(DType dtype) { return dtype == DType::I8 ? "int8" : dtype == DType::BF16 ? "bf16" : "f32"; }

Placement apply(const CommonOptions& options) {
  const DType dtype = asked_dtype(options).value_or(DType::F32);
  const Device device = checked_device(options);
  if (dtype == DType::I8 && device != cpu_device) throw UsageError("--dtype int8: is for the CPU; give --device cpu");
  set_threads(options.threads);
  cpu();  // a path that is not there is refused before anything is read
  return {device, dtype};
}

std::string model_path(const CommonOptions& options) {
  if (!options.model.empty()) return options.model;
  if (const char* path = std::getenv("QFM_MODEL"); path && *path) return path;
  std::error_code error;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* place : {".", "models/pretrained", "../models/pretrained", "../share/qfm"}) {
    const auto path = (folder / place / kShippedModel).lexically_normal();
    if (std::filesystem::exists(path, error)) return path.string();
  }
  QFM_FAIL("no model: ", kShippedModel, " is neither beside ", folder.string(),
           "/qfm nor in models/pretrained; give --model FILE or set QFM_MODEL");
}

std::string extension_of(const std::string& path) {
  std::string extension = std::filesystem::path(path).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return extension;
}

std::string checked_extension(const std::string& path, const std::string& allowed) {
  const std::string extension = extension_of(path);
  if (extension.size() > 1 && (" " + allowed + " ").find(" " + extension + " ") != std::string::npos)
    return extension;
  throw UsageError("-o " + path + ": the extension picks the format: " + allowed);
}

}  // namespace qfm
