// qfm experiment: repeated splits and variants, paired tests, one table.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/base/io.h"
#include "engine/base/sha256.h"
#include "engine/base/threads.h"
#include "tools/child.h"
#include "tools/command.h"
#include "tools/console.h"
#include "tools/experiment_report.h"
#include "tools/version.h"
#include "train/paired_tests.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

struct ExperimentOptions {
  CommonOptions common;
  std::string file, out, root;
  int jobs = 0;
  bool keep_models = false, report_only = false;
};

std::atomic<bool> stop_asked{false};
void ask_stop(int) { stop_asked.store(true); }

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
int jobs_for(const ExperimentOptions& options, size_t runs) {
  if (options.jobs > 0) return options.jobs;
  if (options.common.device.starts_with("cuda")) return 1;
  const int64_t by_memory = std::max<int64_t>(1, available_memory() / kBytesPerJob);
  return static_cast<int>(
      std::clamp<int64_t>(std::min<int64_t>(threads(), by_memory), 1, static_cast<int64_t>(runs)));
}

std::string read_text(const std::string& path) {
  const auto bytes = read_file(path);
  return {bytes.begin(), bytes.end()};
}

// results.jsonl: appended to, a line by one write; a line that a crash cut short is cut off when read.
class ResultLines {
 public:
  explicit ResultLines(std::string path) : path_(std::move(path)) {
    if (!fs::exists(path_)) return;
    const std::string text = read_text(path_);
    size_t begin = 0;
    for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) try {
        results.push_back(RunResult::from(Json::parse(text.substr(begin, end - begin))));
      } catch (const std::exception& e) {
        QFM_FAIL(path_, ": line ", results.size() + 1, ": ", e.what());
      }
    if (begin < text.size()) fs::resize_file(path_, begin);
  }
  void add(RunResult result) {
    const std::string line = to_line(result.json());
    const int file = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    QFM_CHECK(file >= 0, path_, ": cannot be written");
    const bool written =
        ::write(file, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && ::fsync(file) == 0;
    ::close(file);
    QFM_CHECK(written, path_, ": cannot be written");
    const std::lock_guard lock(mutex_);
    results.push_back(std::move(result));
  }
  size_t count() const {
    const std::lock_guard lock(mutex_);
    return results.size();
  }
  std::vector<RunResult> results;  // while runs are added: count() only

 private:
  const std::string path_;
  mutable std::mutex mutex_;
};

// The photos' names, not where they lie on this machine.
std::string split_hash(const TrainTest& parts) {
  std::string text;
  for (const auto& s : parts.train.samples) text += "train " + s.name + "\n";
  for (const auto& s : parts.test.samples) text += "test " + s.name + "\n";
  return sha256(std::vector<uint8_t>(text.begin(), text.end()));
}

class Runner {
 public:
  Runner(const ExperimentOptions& options, const Experiment& experiment, ResultLines& lines)
      : options_(options), experiment_(experiment), lines_(lines) {}

  // The runs that have no line yet. Throws Error where a line was made by other settings.
  std::vector<ExperimentRun> missing() {
    std::vector<ExperimentRun> runs;
    for (const auto& run : runs_of(experiment_)) {
      const auto line = std::find_if(lines_.results.begin(), lines_.results.end(),
                                     [&](auto& r) { return r.id == run.id(); });
      if (line == lines_.results.end()) runs.push_back(run);
      else
        QFM_CHECK(line->key == key_of(run, split_of(run)), options_.out, ": run ", run.id(),
                  " was made with other settings or photos: give another --out");
    }
    return runs;
  }

  // Trains and tests; the line is written when both are done.
  void run(const ExperimentRun& run, int threads) {
    const auto begin = std::chrono::steady_clock::now();
    const std::string folder = options_.out + "/runs/" + run.id();
    fs::create_directories(folder);
    const TrainTest parts = split_of(run);
    write_file(folder + "/train.csv", manifest_text(parts.train));
    write_file(folder + "/test.csv", manifest_text(parts.test));
    write_file(folder + "/flags.json", run.variant->flags + "\n");
    train(run, folder, parts.train, threads);
    const Json tested = test(run, folder, parts.test, threads);
    RunResult result = result_of(run, tested);
    result.key = key_of(run, parts), result.split = split_hash(parts);
    result.losses = losses_of(folder + "/model/log.jsonl");
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    lines_.add(std::move(result));
    if (options_.keep_models) return;
    for (const auto& entry : fs::directory_iterator(folder + "/model"))
      if (entry.path().extension() == ".safetensors") fs::remove(entry.path());
  }

 private:
  // Splits are read once for all variants.
  const TrainTest& split_of(const ExperimentRun& run) {
    const std::lock_guard lock(mutex_);
    const std::string key = concat(run.data->name, "/", run.label_share, "/", run.seed);
    const auto found = splits_.find(key);
    if (found != splits_.end()) return found->second;
    return splits_.emplace(key, split_for(*run.data, run.label_share, run.seed)).first->second;
  }

  std::string key_of(const ExperimentRun& run, const TrainTest& parts) const {
    TrainConfig config;
    merge_config(config, run.variant->flags, "flags");
    const std::string text =
        concat(to_json(config), split_hash(parts), run.seed, experiment_.protocol, experiment_.crops,
               parts.train.range.low, ":", parts.train.range.high, parts.train.higher_is_better);
    return sha256(std::vector<uint8_t>(text.begin(), text.end()));
  }

  static void add_labels(std::vector<std::string>& words, const Dataset& set) {
    words.insert(words.end(), {"--scale", format("%.17g:%.17g", set.range.low, set.range.high)});
    if (!set.higher_is_better) words.push_back("--lower-is-better");
  }
  void call(std::vector<std::string> words, const std::string& folder, int threads) const {
    words.insert(words.end(),
                 {"--threads", std::to_string(threads), "--device", options_.common.device, "--quiet"});
    const std::string log = folder + "/talk.txt";
    const int code = run_self(words, log);
    if (code == 0) return;
    const std::string talk = read_text(log);
    const size_t end = talk.find_last_not_of('\n'), start = talk.rfind('\n', end);
    QFM_FAIL(
        folder, ": ", words[0], " ended with ", code, ": ",
        end == std::string::npos ? "" : talk.substr(start == std::string::npos ? 0 : start + 1, end - start));
  }
  void train(const ExperimentRun& run, const std::string& folder, const Dataset& set, int threads) const {
    const std::string out = folder + "/model";
    std::vector<std::string> words{
        "train", "--config", folder + "/flags.json",  "--data", folder + "/train.csv", "--out",
        out,     "--seed",   std::to_string(run.seed)};
    add_labels(words, set);
    if (experiment_.protocol == "paper")
      words.insert(words.end(), {"--protocol", "paper", "--val", folder + "/test.csv"});
    if (fs::exists(out + "/state.safetensors")) words.push_back("--resume");
    else fs::remove_all(out);  // nothing to go on from
    call(words, folder, threads);
  }
  Json test(const ExperimentRun&, const std::string& folder, const Dataset& set, int threads) const {
    const std::string model = experiment_.protocol == "paper" ? "best" : "last",
                      report = folder + "/eval.json";
    std::vector<std::string> words{"eval",
                                   "--data",
                                   folder + "/test.csv",
                                   "--model",
                                   folder + "/model/" + model + ".safetensors",
                                   "--crops",
                                   experiment_.crops,
                                   "-o",
                                   report};
    add_labels(words, set);
    call(words, folder, threads);
    return Json::parse(read_text(report));
  }

  static RunResult result_of(const ExperimentRun& run, const Json& tested) {
    const Json& m = tested.at("metrics");
    const auto figure = [&](const char* key) {
      return m.at(key).is_null() ? std::nullopt : std::optional(m.at(key).get<double>());
    };
    RunResult r;
    r.id = run.id(), r.data = run.data->name, r.variant = run.variant->name, r.label_share = run.label_share;
    r.seed = run.seed, r.version = version(), r.commit = commit();
    r.srcc = figure("srcc"), r.plcc = figure("plcc"), r.plcc_mapped = figure("plcc_mapped"),
    r.krcc = figure("krcc");
    r.rmse_mapped = figure("rmse_mapped");
    for (const Json& photo : tested.at("photos"))
      r.labels.push_back(photo.at("label")), r.scores.push_back(photo.at("score"));
    return r;
  }
  static std::vector<double> losses_of(const std::string& log) {
    std::vector<double> losses;
    std::ifstream lines(log);
    for (std::string line; std::getline(lines, line);) {
      const Json event = Json::parse(line);
      if (event.value("event", "") == "epoch") losses.push_back(event.at("loss"));
    }
    return losses;
  }

  const ExperimentOptions& options_;
  const Experiment& experiment_;
  ResultLines& lines_;
  std::mutex mutex_;
  std::map<std::string, TrainTest> splits_;
};

void write_tables(const std::string& out, const Experiment& e, const std::vector<RunResult>& results) {
  write_file(out + "/table.md", experiment_markdown(e, results));
  write_file(out + "/table.html", experiment_html(e, results));
}

// All of `runs` on `jobs` threads that wait for their processes. The number that failed.
int64_t run_all(const ExperimentOptions& options, const Experiment& e, Runner& runner, ResultLines& lines,
                const std::vector<ExperimentRun>& runs) {
  const int jobs = jobs_for(options, runs.size()), each = std::max(1, threads() / jobs);
  note(options.common.quiet, format("qfm: %zu runs to do, %d at a time on %d thread%s each\n", runs.size(),
                                    jobs, each, each == 1 ? "" : "s"));
  const auto total = static_cast<int64_t>(runs_of(e).size());
  Progress progress(options.common.quiet, "runs", total, total - static_cast<int64_t>(runs.size()));
  std::mutex talk;
  std::atomic<size_t> next{0};
  std::atomic<int64_t> failed{0};
  std::atomic<bool> done{false};
  const auto work = [&] {
    for (size_t i; !stop_asked && (i = next++) < runs.size();) {
      std::string failure;
      try {
        runner.run(runs[i], each);
      } catch (const std::exception& error) {
        failure = error.what();
      }
      const std::lock_guard lock(talk);
      if (!failure.empty() && !stop_asked) ++failed, progress.clear(), warn(error_line(failure));
      progress.update(static_cast<int64_t>(lines.count()), runs[i].id());
    }
  };
  std::jthread watch([&] {
    while (!done) {
      if (stop_asked) stop_children();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  });
  std::vector<std::jthread> workers;
  for (int j = 0; j < jobs; ++j) workers.emplace_back(work);
  workers.clear();
  done = true;
  return failed;
}

int experiment(const ExperimentOptions& options) {
  const std::string file = fs::absolute(options.file).string();
  ExperimentOptions settled = options;
  settled.out =
      fs::absolute(options.out.empty() ? fs::path(options.file).stem() : fs::path(options.out)).string();
  const Experiment e = parse_experiment(read_text(file), options.file);
  apply(options.common);
  if (!options.root.empty()) fs::current_path(options.root);
  fs::create_directories(settled.out);
  ResultLines lines(settled.out + "/results.jsonl");
  int64_t failed = 0;
  const auto total = runs_of(e).size();
  if (!options.report_only) {
    std::signal(SIGINT, ask_stop);
    std::signal(SIGTERM, ask_stop);
    Runner runner(settled, e, lines);
    const auto runs = runner.missing();
    if (!runs.empty()) failed = run_all(settled, e, runner, lines, runs);
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
  app->add_flag("--keep-models", options->keep_models, "Keep the checkpoints of finished runs");
  app->add_flag("--report", options->report_only, "Only make the tables of the runs that are there");
  add_device_options(*app, options->common);
  add_common_options(*app, options->common);
  on(app, [options] { return experiment(*options); });
}

}  // namespace qfm
