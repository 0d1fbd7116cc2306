// qfm experiment: repeated splits and variants, paired tests, one table.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "engine/base/io.h"
#include "engine/base/threads.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/experiment/child.h"
#include "tools/experiment/runs.h"

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

std::atomic<bool> stopping{false};
void ask_children_to_stop(int) { stopping.store(true); }

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

void write_tables(const std::string& out, const Experiment& e, const std::vector<RunResult>& results) {
  write_file(out + "/table.md", experiment_markdown(e, results));
  write_file(out + "/table.html", experiment_html(e, results));
}

// What is said of a finished run: "BIQ2021/full/share-1/seed-0  SRCC 0.7280  9 min 02 s".
std::string line_of(const RunResult& r) {
  return r.id + (r.srcc ? format("  SRCC %.4f  ", *r.srcc) : "  SRCC undefined  ") + duration(r.seconds) +
         (r.protocol == "paper" ? "  (protocol paper)\n" : "\n");
}

// What is said while runs are made: a bar over the updates of all of them. For several threads.
class ProgressReporter {
 public:
  ProgressReporter(bool quiet, Runner& runner, const ResultLines& lines,
                   const std::vector<ExperimentRun>& runs, size_t all)
      : quiet_(quiet), runner_(runner), lines_(lines), runs_(runs), all_(all), begun_(made()) {
    int64_t total = 0;
    for (const auto& run : runs) total += runner.updates(run);
    progress_.emplace(quiet, "updates", total, begun_);
  }
  void look() {
    const std::lock_guard lock(mutex_);
    update();
  }
  void finished(const RunResult& result) {
    const std::lock_guard lock(mutex_);
    progress_->clear();
    note(quiet_, line_of(result));
    update();
  }
  void failed(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    progress_->clear();
    warn(error_line(reason));
  }

 private:
  int64_t made() const {
    int64_t updates = 0;
    for (const auto& run : runs_) updates += runner_.updates_made(run);
    return updates;
  }
  // A run that is begun anew takes back what its log said: never below the start.
  void update() {
    progress_->update(std::max(begun_, made()), format("%zu of %zu runs done", lines_.count(), all_));
  }

  const bool quiet_;
  Runner& runner_;
  const ResultLines& lines_;
  const std::vector<ExperimentRun>& runs_;
  const size_t all_;
  const int64_t begun_;
  std::mutex mutex_;
  std::optional<Progress> progress_;
};

// Until done: passes on that a stop was asked for, and looks every two seconds how far the runs are.
void watch(const std::atomic<bool>& done, ProgressReporter& talk) {
  for (int tick = 1; !done; ++tick) {
    if (stopping) stop_children();
    else if (tick % 10 == 0) talk.look();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

// All of `runs`, `jobs` at a time, on threads that wait for their processes. The number that failed.
int64_t run_all(Runner& runner, ProgressReporter& talk, const std::vector<ExperimentRun>& runs, int jobs,
                int each) {
  std::atomic<size_t> next{0};
  std::atomic<int64_t> failed{0};
  std::atomic<bool> done{false};
  const auto work = [&] {
    for (size_t i; !stopping && (i = next++) < runs.size();) try {
        talk.finished(runner.run(runs[i], each));
      } catch (const std::exception& error) {
        if (!stopping) ++failed, talk.failed(error.what());
      }
  };
  std::jthread watcher([&] { watch(done, talk); });
  std::vector<std::jthread> workers;
  for (int j = 0; j < jobs; ++j) workers.emplace_back(work);
  workers.clear();
  done = true;
  return failed;
}

// What is missing. The number of runs that failed.
int64_t make_runs(const ExperimentOptions& options, const Experiment& e, Device device, Runner& runner,
                  const ResultLines& lines) {
  std::signal(SIGINT, ask_children_to_stop);
  std::signal(SIGTERM, ask_children_to_stop);
  const auto runs = runner.missing();
  if (runs.empty()) return 0;
  const int jobs = jobs_for(options.jobs, device, runs.size()), each = std::max(1, threads() / jobs);
  note(options.common.quiet, format("qfm: %zu runs to do, %d at a time on %d thread%s each\n", runs.size(),
                                    jobs, each, each == 1 ? "" : "s"));
  ProgressReporter talk(options.common.quiet, runner, lines, runs, runs_of(e).size());
  return run_all(runner, talk, runs, jobs, each);
}

int experiment(const ExperimentOptions& options) {
  if (options.common.dtype != "f32")
    throw UsageError("--dtype " + options.common.dtype +
                     ": a setting of the variants: \"dtype\" in the flags of FILE");
  const std::string file = fs::absolute(options.file).string();
  ExperimentOptions settled = options;
  settled.out =
      fs::absolute(options.out.empty() ? fs::path(options.file).stem() : fs::path(options.out)).string();
  const Experiment e = parse_experiment(read_text(file), options.file);
  std::vector<RunResult> others;
  for (const auto& path : options.reuse)
    for (auto& result : read_results(path)) others.push_back(std::move(result));
  const Device device = apply(options.common).device;
  if (!options.root.empty()) fs::current_path(options.root);
  fs::create_directories(settled.out);
  ResultLines lines(settled.out + "/results.jsonl");
  for (const auto& result : lines.results) check_protocol(result, e, settled.out);
  int64_t failed = 0;
  const auto total = runs_of(e).size();
  Runner runner({settled.out, options.common.device, options.keep_models}, e, lines);
  if (!others.empty())
    note(options.common.quiet,
         format("qfm: %lld runs were made before\n", static_cast<long long>(runner.reuse(others))));
  if (!options.report_only) failed = make_runs(options, e, device, runner, lines);
  try {
    runner.add_labels(lines.results);
  } catch (const Error& error) {
    note(options.common.quiet, std::string("qfm: tables without labels: ") + error.what() + "\n");
  }
  write_tables(settled.out, e, lines.results);
  print(experiment_markdown(e, lines.results));
  if (lines.results.size() >= total) return 0;
  warn(format("qfm: %s: %zu of %zu runs done%s; the same command goes on\n", settled.out.c_str(),
              lines.results.size(), total,
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
