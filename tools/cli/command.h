// What a subcommand of qfm is made of.
#pragma once
#include <CLI/App.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

#include "engine/base/dtype.h"
#include "engine/base/error.h"
#include "engine/memory/device.h"

namespace qfm {

// The command line asks for what cannot be: exit code 2. Everything else that goes wrong is an Error: exit
// code 1.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// f(), where every Error of it is the user's mistake (parsing of an option's value).
template <class F>
auto as_usage(const std::string& option, F&& f) {
  try {
    return f();
  } catch (const Error& e) {
    throw UsageError(option + ": " + e.what());
  }
}

template <class F>
auto as_usage(F&& f) {
  try {
    return f();
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

// Runs a subcommand once its options are parsed; returns the exit code, 0 or 1.
using Action = std::function<int()>;
// Adds a subcommand to `parent`; register_action takes what runs when it was the one asked for.
using RegisterAction = std::function<void(CLI::App*, Action)>;
void add_score(CLI::App& parent, const RegisterAction& on);
void add_rank(CLI::App& parent, const RegisterAction& on);
void add_explain(CLI::App& parent, const RegisterAction& on);
void add_embed(CLI::App& parent, const RegisterAction& on);
void add_model(CLI::App& parent, const RegisterAction& on);
void add_bench(CLI::App& parent, const RegisterAction& on);
#ifndef QFM_DEPLOY
void add_compare(CLI::App& parent, const RegisterAction& on);
void add_train(CLI::App& parent, const RegisterAction& on);
void add_eval(CLI::App& parent, const RegisterAction& on);
void add_distort(CLI::App& parent, const RegisterAction& on);
void add_data(CLI::App& parent, const RegisterAction& on);
void add_experiment(CLI::App& parent, const RegisterAction& on);
#endif

// A subcommand with its flags --threads, --seed, --quiet and --version; `example` is one line that works.
struct CommonOptions {
  int threads = 0;  // 0: all cores
  uint64_t seed = 0;
  bool quiet = false;
  std::string model, device = "auto", dtype = "auto";
};
CLI::App* add_subcommand(CLI::App& parent, const std::string& name, const std::string& description,
                         const std::string& example);
void add_common_options(CLI::App& app, CommonOptions& options);
// --device and --dtype; and --model, for commands that run a checkpoint.
void add_device_options(CLI::App& app, CommonOptions& options);
void add_model_option(CLI::App& app, CommonOptions& options);

// Makes --threads hold, and checks what was asked of --device and --dtype; auto is F32. Throws UsageError or Error.
struct Placement {
  Device device;
  DType dtype;  // I8: INT8, on the CPU
};
Placement apply(const CommonOptions& options);
// What --dtype says, nothing for auto: it is then for load_model to decide. And what a dtype is called there.
std::optional<DType> asked_dtype(const CommonOptions& options);
const char* flag_of(DType dtype);
// The path of --model, else QFM_MODEL, else the model shipped with the program. Throws Error that lists where
// it looked.
std::string model_path(const CommonOptions& options);

// ".json" of "a/b.JSON", in lower case; "" where there is none.
std::string extension_of(const std::string& path);
// The extension of -o FILE, which must be one of `allowed` (".json .csv"). Throws UsageError.
std::string checked_extension(const std::string& path, const std::string& allowed);

}  // namespace qfm
