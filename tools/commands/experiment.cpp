// qfm experiment: repeated splits and variants, paired tests, one table.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>

#include "engine/base/io.h"
#include "engine/base/threads.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/experiment/report.h"
#include "tools/experiment/runner.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

struct ExperimentOptions {
  CommonOptions common;
  std::string file, out, root;
  int jobs = 0;
  std::vector<std::string> reuse;
  bool keep_models = false, report_only = false;
};

// A training process of ViT-Tiny holds about 1 GiB, of ViT-Small 2.
constexpr int64_t kBytesPerJob = int64_t{2} << 30;

int64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (int64_t kb; file >> key >> kb; std::getline(file, unit))
    if (key == "MemAvailable:") return kb * 1024;
  return kBytesPerJob;
}

// One process a core unless memory is short; on a GPU one.
int jobs_for(int asked, Device device, size_t runs) {
  if (asked > 0) return asked;
  if (device != cpu_device) return 1;
  const int64_t by_memory = std::max<int64_t>(1, available_memory() / kBytesPerJob);
  return static_cast<int>(
      std::clamp<int64_t>(std::min<int64_t>(threads(), by_memory), 1, static_cast<int64_t>(runs)));
}

// The number of runs that failed.
int64_t make_missing(const ExperimentOptions& options, Device device, Runner& runner) {
  const auto runs = runner.missing();
  if (runs.empty()) return 0;
  const int jobs = jobs_for(options.jobs, device, runs.size()), each = std::max(1, threads() / jobs);
  note(options.common.quiet, format("qfm: %zu runs to do, %d at a time on %d thread%s each\n", runs.size(),
                                    jobs, each, each == 1 ? "" : "s"));
  return runner.make(runs, jobs, each);
}

int experiment(const ExperimentOptions& options) {
  if (options.common.dtype != "auto")
    throw UsageError("--dtype " + options.common.dtype +
                     ": a setting of the variants: \"dtype\" in the flags of FILE");
  const std::string file = fs::absolute(options.file).string();
  const std::string out =
      fs::absolute(options.out.empty() ? fs::path(options.file).stem() : fs::path(options.out)).string();
  Experiment e = parse_experiment(read_text(file), options.file);
  std::vector<RunResult> others;
  for (const auto& path : options.reuse)
    for (auto& result : read_results(path)) others.push_back(std::move(result));
  const Device device = apply(options.common).device;
  // Results are kept under their settings.
  for (ExperimentVariant& variant : e.variants) choose_dtype(variant.config, device);
  const bool quiet = options.common.quiet;
  if (!options.root.empty()) fs::current_path(options.root);
  fs::create_directories(out);
  Runner runner({out, options.common.device, options.keep_models, quiet}, e);
  if (!others.empty())
    note(quiet, format("qfm: %lld runs were made before\n", static_cast<long long>(runner.reuse(others))));
  const int64_t failed = options.report_only ? 0 : make_missing(options, device, runner);
  try {
    runner.add_labels();
  } catch (const Error& error) {
    note(quiet, std::string("qfm: tables without labels: ") + error.what() + "\n");
  }
  const auto report = experiment_report(e, runner.results());
  write_file(out + "/table.md", markdown(report));
  write_file(out + "/table.html", html(report));
  print(markdown(report));
  const size_t done = runner.results().size(), total = runs_of(e).size();
  if (done >= total) return 0;
  warn(format("qfm: %s: %zu of %zu runs done%s; the same command goes on\n", out.c_str(), done, total,
              failed ? format(", %lld failed", static_cast<long long>(failed)).c_str() : ""));
  return 1;
}

}  // namespace

void add_experiment(CLI::App& parent, const RegisterAction& on) {
  const auto options = std::make_shared<ExperimentOptions>();
  CLI::App* app = add_subcommand(
      parent, "experiment",
      "Train and test every variant of FILE on every data set, split and seed, and compare them in pairs.\n"
      "DIR gets results.jsonl (a line a finished run), table.md and table.html. Stopped or killed, the same "
      "command goes on "
      "where it was. FILE is a JSON object: name, data, variants, seeds; train/experiments/ has some.",
      "qfm experiment train/experiments/main.json --root /data --out main");
  app->add_option("FILE", options->file, "What to run")->type_name("FILE")->required();
  app->add_option("--out", options->out, "Folder of the results (default: FILE's name without .json)")
      ->type_name("DIR");
  app->add_option("--root", options->root,
                  "Paths inside FILE are relative to this (default: the current folder)")
      ->type_name("DIR");
  app->add_option("--jobs", options->jobs,
                  "Runs at a time (default: one a core, as memory allows; one on a GPU)")
      ->check(CLI::Range(1, 1024).description(""))
      ->type_name("N");
  app->add_option("--reuse", options->reuse,
                  "results.jsonl of another experiment: its lines serve where settings, photos, labels, "
                  "files and seed are "
                  "equal")
      ->type_name("FILE");
  app->add_flag("--keep-models", options->keep_models, "Keep the checkpoints of finished runs");
  app->add_flag("--report", options->report_only,
                "Run nothing: only make the tables of the runs that are there, or in --reuse");
  add_device_options(*app, options->common);
  add_common_options(*app, options->common);
  on(app, [options] { return experiment(*options); });
}

}  // namespace qfm
