// qfm experiment: repeated splits and variants, paired tests, one table. Runs are trained and tested by child
// processes; a finished one is a line of results.jsonl.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <future>
#include <memory>
#include <mutex>
#include <sstream>
#include <thread>

#include "engine/base/io.h"
#include "engine/base/sha256.h"
#include "engine/base/threads.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/results.h"
#include "tools/cli/version.h"
#include "tools/experiment/report.h"
#include "train/data/manifest.h"
#include "train/image/photo_files.h"
#include "train/run/run_folder.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

struct ExperimentOptions {
  CommonOptions common;
  std::string file, out, root;  // out: gets results.jsonl, and runs/ID/ with what the children read and write
  int jobs = 0;
  std::vector<std::string> reuse;
  bool keep_models = false, report_only = false;
};

RunResult result_from(Json line) {
  RunResult r{line.at("seed"), line.at("split_sha256"), line.at("version"), line.at("commit"), {},
              line.at("losses"), line.at("scores")};
  for (const char* figure : {"srcc", "plcc", "plcc_mapped", "krcc", "rmse_mapped", "seconds"})
    if (!line.at(figure).is_null()) r.figures[figure] = line.at(figure);
  r.line = std::move(line);
  return r;
}

// Without a line that a crash cut short.
RunResults read_results(const std::string& path) {
  RunResults results;
  std::istringstream lines(read_text(path));
  size_t number = 1;
  for (std::string line; std::getline(lines, line) && !lines.eof(); ++number) try {
      const RunResult result = result_from(Json::parse(line));
      QFM_CHECK(result.line.at("key").is_string(), "no key");
      results.insert({result.line.at("id"), result});
    } catch (const std::exception& e) {
      QFM_FAIL(path, ": line ", number, ": not a result: ", e.what());
    }
  return results;
}

// The mean loss of each epoch that a training run has behind it.
std::vector<double> losses_of(const std::string& log) {
  std::vector<double> losses;
  std::istringstream lines(fs::exists(log) ? read_text(log) : "");
  for (std::string line; std::getline(lines, line) && !lines.eof();)  // it may be growing
    if (line.starts_with("{\"event\":\"epoch\"")) losses.push_back(Json::parse(line).at("loss"));
  return losses;
}

// Runs this program, its output in the file `log`; the lock is free meanwhile. It gets SIGTERM where this one is told
// to stop, once, or ends. The exit code, or 128 + the signal that ended it.
int run_self(std::vector<std::string> words, const std::string& log, std::unique_lock<std::mutex>& lock) {
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child == 0) {  // only what is safe between fork and exec
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ::dup2(file, STDOUT_FILENO), ::dup2(file, STDERR_FILENO);
    if (::getppid() == parent) ::execv("/proc/self/exe", argv.data());  // else it died before prctl
    ::_exit(127);
  }
  QFM_CHECK(child > 0, "a process cannot be started");
  lock.unlock();
  int status = 0;
  for (bool told = false; ::waitpid(child, &status, WNOHANG) == 0; std::this_thread::sleep_for(20ms))
    if (stop_asked() && !std::exchange(told, true)) ::kill(child, SIGTERM);
  lock.lock();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The photos' names, not where they lie on this machine.
std::string split_hash(const TrainTest& parts) {
  std::string text;
  for (const auto& s : parts.train.samples) text += "train " + s.name + "\n";
  for (const auto& s : parts.test.samples) text += "test " + s.name + "\n";
  return sha256(text);
}

class Runner {
 public:
  RunResults results;

  // Throws Error for lines that cannot be read, and for one of another protocol or of other crops.
  Runner(const Experiment& experiment, const ExperimentOptions& options) : experiment_(experiment), options_(options) {
    if (!fs::exists(lines_)) return;
    results = read_results(lines_);
    fs::resize_file(lines_, read_text(lines_).rfind('\n') + 1);
    for (const auto& [id, r] : results) {
      const std::string protocol = r.line.value("protocol", ""), crops = r.line.value("crops", "");
      QFM_CHECK((protocol.empty() || protocol == experiment.protocol) && (crops.empty() || crops == experiment.crops),
                options.out, ": run ", id, " was made with protocol ", protocol, " and crops ", crops,
                ": give another --out");
    }
  }

  // The runs that have no line, neither here nor among `others`. Throws Error where a line was made by other settings.
  std::vector<ExperimentRun> missing(const RunResults& others) {
    std::vector<ExperimentRun> runs;
    for (const auto& run : runs_of(experiment_)) {
      const auto line = results.find(run.id());
      QFM_CHECK(line == results.end() || serves(line->second.line, run), options_.out, ": run ", run.id(),
                " was made with other settings or photos, or other labels, --init, --teacher or --unlabelled: give "
                "another --out");
      if (line != results.end()) continue;
      const auto same = std::find_if(others.begin(), others.end(),
                                     [&](auto& other) { return serves(other.second.line, run); });
      if (same == others.end()) runs.push_back(run);
      else keep(run, same->second.line);
    }
    return runs;
  }

  // Makes runs, `jobs` at a time. What fails is told on stderr. SIGINT and SIGTERM end it once the children have saved
  // what they have. The number of runs that failed.
  int64_t make(const std::vector<ExperimentRun>& runs, int jobs, int threads) {
    stop_on_signals();
    int64_t total = 0, failed = 0;
    for (const auto& run : runs) total += run.variant->config.epochs;
    const int64_t begun = epochs(runs);
    Progress progress(options_.common.quiet, "epochs", total, begun);
    const auto show = [&] {  // never below the start: a run that is begun anew takes back the epochs of its log
      progress.update(std::max(begun, epochs(runs)),
                      format("%zu of %zu runs done", results.size(), runs_of(experiment_).size()));
    };
    auto next = runs.begin();
    const auto work = [&] {
      std::unique_lock lock(mutex_);
      while (next != runs.end() && !stop_asked()) try {
          const std::string line = make(*next++, threads, lock);
          progress.clear(), note(options_.common.quiet, line), show();
        } catch (const std::exception& error) {
          if (!stop_asked()) ++failed, progress.clear(), warn(error_line(error.what()));
        }
    };
    std::vector<std::future<void>> workers;
    for (int i = 0; i < jobs; ++i) workers.push_back(std::async(std::launch::async, work));
    for (const auto& worker : workers)
      while (worker.wait_for(2s) != std::future_status::ready) {
        const std::lock_guard lock(mutex_);
        show();
      }
    return failed;
  }

  // Gives the results the labels of their photos. Throws Error where a data set cannot be read.
  void add_labels() {
    for (const auto& run : runs_of(experiment_)) {
      const auto found = results.find(run.id());
      if (found == results.end()) continue;
      const Dataset& test = split_of(run).test;
      RunResult& r = found->second;
      if (split_hash(split_of(run)) != r.split_sha256 || test.samples.size() != r.scores.size()) continue;
      for (const auto& s : test.samples) r.labels.push_back(rounded(test.quality(s.score)));
    }
  }

 private:
  // The references of a map stay good as it grows.
  const TrainTest& split_of(const ExperimentRun& run) {
    const auto at = splits_.try_emplace(concat(run.data->name, "/", run.label_share, "/", run.seed)).first;
    if (at->second.test.samples.empty()) at->second = split_for(*run.data, run.label_share, run.seed);
    return at->second;
  }

  const std::string& digest_of(const std::string& path) {
    std::string& digest = digests_[path];
    if (digest.empty()) digest = sha256_of_file(path);
    return digest;
  }

  // SHA-256 of settings, seed, protocol and the photos' names.
  std::string key_of(const ExperimentRun& run) {
    const Dataset& train = split_of(run).train;
    return sha256(concat(to_json(run.variant->config), split_hash(split_of(run)), run.seed, experiment_.protocol,
                         experiment_.crops, train.range.low, ":", train.range.high, train.higher_is_better));
  }

  // SHA-256 of the photos' labels, and of the files that --init, --teacher and --unlabelled lead to.
  std::string inputs_of(const ExperimentRun& run) {
    const TrainConfig& config = run.variant->config;
    std::string text;
    for (const auto& s : split_of(run).train.samples) text += format("train %.17g\n", s.score);
    for (const auto& s : split_of(run).test.samples) text += format("test %.17g\n", s.score);
    for (const auto& file : {config.init, config.objectives.text("teacher")})
      text += (file.empty() ? "none" : digest_of(file)) + "\n";
    if (const std::string& unlabelled = config.objectives.text("unlabelled"); !unlabelled.empty())
      for (const auto& photo : photos_in(unlabelled, true)) text += digest_of(photo) + "\n";
    return sha256(text);
  }

  // Whether a line's figures are what `run` would give; lines of earlier versions have no inputs. The key first: the
  // files need not be there to see that another run made the line.
  bool serves(const Json& line, const ExperimentRun& run) {
    const std::string inputs = line.value("inputs", "");
    return line.at("key") == key_of(run) && (inputs.empty() || inputs == inputs_of(run));
  }

  // Adds a line, completed with whose run it is and what all runs of the experiment share.
  const RunResult& keep(const ExperimentRun& run, const Json& made) {
    Json line{{"id", run.id()}, {"data", run.data->name}, {"variant", run.variant->name},
              {"label_share", run.label_share}, {"seed", run.seed}, {"protocol", experiment_.protocol},
              {"crops", experiment_.crops}};
    if (truncated_schedule(run.variant->config)) line["schedule"] = "truncated";
    line.insert(made.begin(), made.end());
    const FileDescriptor file(::open(lines_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
    write_all(file, to_line(line), lines_);
    QFM_CHECK(::fsync(file.get()) == 0, lines_, ": cannot be written");
    return results.emplace(run.id(), result_from(line)).first->second;
  }

  std::string folder_of(const ExperimentRun& run) const { return options_.out + "/runs/" + run.id(); }

  int64_t epochs(const std::vector<ExperimentRun>& runs) const {
    int64_t done = 0;
    for (const auto& run : runs) done += std::ssize(losses_of(folder_of(run) + "/model/log.jsonl"));
    return done;
  }

  // Trains and tests. "BIQ2021/full/share-1/seed-0  SRCC 0.7280  9 min 02 s".
  std::string make(const ExperimentRun& run, int threads, std::unique_lock<std::mutex>& lock) {
    const auto begun = Clock::now();
    const std::string folder = folder_of(run), model = folder + "/model";
    const bool paper = experiment_.protocol == "paper";
    fs::create_directories(folder);
    // Where this experiment was killed a moment ago, its run is still saving.
    QFM_CHECK(run_folder_is_free(model, 60), folder, ": another process trains here");
    const TrainTest& parts = split_of(run);
    Json line{{"key", key_of(run)}, {"inputs", inputs_of(run)}, {"split_sha256", split_hash(parts)},
              {"version", version()}, {"commit", commit()}};
    std::vector<std::string> train{"train", "--config", folder + "/flags.json", "--out", model,
                                   "--seed", std::to_string(run.seed), "--protocol", experiment_.protocol};
    if (paper) train.insert(train.end(), {"--val", folder + "/test.csv"});
    if (goes_on(folder, line)) train.push_back("--resume");
    write_file(folder + "/flags.json", to_json(run.variant->config));
    write_file(folder + "/train.csv", manifest_text(parts.train, ImagesBy::Path));
    write_file(folder + "/test.csv", manifest_text(parts.test, ImagesBy::Path));
    child(train, folder, "/train.csv", parts.train, threads, lock);
    child({"eval", "--model", model + (paper ? "/best" : "/last") + ".safetensors", "--crops", experiment_.crops, "-o",
           folder + "/eval.json"},
          folder, "/test.csv", parts.test, threads, lock);
    const Json tested = Json::parse(read_text(folder + "/eval.json"));
    line.update(tested.at("metrics"));
    for (const Json& photo : tested.at("photos")) line["scores"].push_back(photo.at("score"));
    line["losses"] = losses_of(model + "/log.jsonl");
    line["seconds"] = rounded(std::chrono::duration<double>(Clock::now() - begun).count());
    const auto srcc = keep(run, line).figure("srcc");
    for (const auto& entry : fs::directory_iterator(model))
      if (!options_.keep_models && entry.path().extension() == ".safetensors") fs::remove(entry.path());
    return run.id() + (srcc ? format("  SRCC %.4f  ", *srcc) : "  SRCC undefined  ") + duration(line["seconds"]) +
           (paper ? "  (protocol paper)\n" : "\n");
  }

  // Whether training in the run's folder was begun with what the line is to name; else nothing is left of it.
  static bool goes_on(const std::string& folder, const Json& line) {
    const std::string origin = folder + "/inputs.txt", inputs = line["key"].dump() + line["inputs"].dump(),
                      model = folder + "/model";
    // A new run writes its state, then its config; at the end of a run its state is removed here.
    const bool same = fs::exists(origin) && read_text(origin) == inputs && fs::exists(model + "/config.json") &&
                      fs::exists(model + "/state.safetensors");
    if (!same) fs::remove_all(model);
    write_file(origin, inputs);
    return same;
  }

  // Runs a command of this program on a part of the data.
  void child(std::vector<std::string> words, const std::string& folder, const char* table, const Dataset& set,
             int threads, std::unique_lock<std::mutex>& lock) {
    const std::string command = words[0], talk = folder + "/talk.txt";
    words.insert(words.begin(), "qfm");
    const std::string scale = format("%.17g:%.17g", set.range.low, set.range.high);
    words.insert(words.end(), {"--data", folder + table, "--scale", scale, "--threads", std::to_string(threads),
                               "--device", options_.common.device, "--quiet"});
    if (!set.higher_is_better) words.push_back("--lower-is-better");
    const int code = run_self(words, talk, lock);
    QFM_CHECK(code == 0, folder, ": ", command, " ended with ", code, ": ", read_text(talk));
  }

  const Experiment& experiment_;
  const ExperimentOptions& options_;
  const std::string lines_ = options_.out + "/results.jsonl";
  std::map<std::string, TrainTest> splits_;     // read once for all variants
  std::map<std::string, std::string> digests_;  // SHA-256 of a file, by its path
  std::mutex mutex_;                            // of all the above, and of the terminal, while runs are made
};

// One process a core unless memory is short: training ViT-Tiny holds about 1 GiB, ViT-Small 2. On a GPU one.
int jobs_for(const ExperimentOptions& options, Device device, size_t runs) {
  const auto memory = ::sysconf(_SC_PHYS_PAGES) * ::sysconf(_SC_PAGESIZE);
  const int64_t usual = device == cpu_device ? std::min<int64_t>(threads(), memory >> 31) : 1;
  return static_cast<int>(std::clamp<int64_t>(options.jobs ? options.jobs : usual, 1, static_cast<int64_t>(runs)));
}

int experiment(ExperimentOptions options) {
  if (options.common.dtype != "auto")
    throw UsageError("--dtype " + options.common.dtype + ": a setting of the variants: \"dtype\" in the flags of FILE");
  const bool quiet = options.common.quiet;
  Experiment e = parse_experiment(read_text(options.file), options.file);
  options.out = fs::absolute(options.out.empty() ? fs::path(options.file).stem() : fs::path(options.out)).string();
  RunResults others;
  for (const auto& path : options.reuse)
    for (const auto& [id, result] : read_results(path)) others.insert({path + id, result});
  const Device device = apply(options.common).device;
  for (ExperimentVariant& variant : e.variants) choose_dtype(variant.config, device);  // kept under their settings
  if (!options.root.empty()) fs::current_path(options.root);
  fs::create_directories(options.out);
  Runner runner(e, options);
  const size_t before = runner.results.size(), total = runs_of(e).size();
  int64_t failed = 0;
  if (!options.report_only || !others.empty()) {
    const auto runs = runner.missing(others);
    if (!others.empty()) note(quiet, format("qfm: %zu runs were made before\n", runner.results.size() - before));
    if (!options.report_only && !runs.empty()) {
      const int jobs = jobs_for(options, device, runs.size()), each = std::max(1, threads() / jobs);
      note(quiet, format("qfm: %zu runs to do, %d at a time on %d thread%s each\n", runs.size(), jobs, each,
                         each == 1 ? "" : "s"));
      failed = runner.make(runs, jobs, each);
    }
  }
  try {
    runner.add_labels();
  } catch (const Error& error) {
    note(quiet, std::string("qfm: tables without labels: ") + error.what() + "\n");
  }
  const Page report = report_of(e, runner.results);
  write_file(options.out + "/table.md", report.markdown);
  write_file(options.out + "/table.html", report.html(e.name));
  print(report.markdown);
  const size_t done = runner.results.size();
  if (done >= total) return 0;
  warn(format("qfm: %s: %zu of %zu runs done", options.out.c_str(), done, total) +
       (failed ? concat(", ", failed, " failed") : "") + "; the same command goes on\n");
  return 1;
}

}  // namespace

void add_experiment(CLI::App& parent, const RegisterAction& on) {
  const auto options = std::make_shared<ExperimentOptions>();
  CLI::App* app = add_subcommand(
      parent, "experiment",
      "Train and test every variant of FILE on every data set, split and seed, and compare them in pairs.\n"
      "DIR gets results.jsonl (a line a finished run), table.md and table.html. Stopped or killed, the same command "
      "goes on where it was. FILE is a JSON object: name, data, variants, seeds; train/experiments/ has some.",
      "qfm experiment train/experiments/main.json --root /data --out main");
  const auto add = [app](const char* name, auto& value, const char* type, const char* help) {
    return app->add_option(name, value, help)->type_name(type);
  };
  add("FILE", options->file, "FILE", "What to run")->required();
  add("--out", options->out, "DIR", "Folder of the results (default: FILE's name without .json)");
  add("--root", options->root, "DIR", "Paths inside FILE are relative to this (default: the current folder)");
  add("--jobs", options->jobs, "N", "Runs at a time (default: one a core, as memory allows; one on a GPU)")
      ->check(CLI::Range(1, 1024).description(""));
  add("--reuse", options->reuse, "FILE",
      "results.jsonl of another experiment: its lines serve where settings, photos, labels, files and seed are equal");
  app->add_flag("--keep-models", options->keep_models, "Keep the checkpoints of finished runs");
  app->add_flag("--report", options->report_only,
                "Run nothing: only make the tables of the runs that are there, or in --reuse");
  add_device_options(*app, options->common);
  add_common_options(*app, options->common);
  on(app, [options] { return experiment(*options); });
}

}  // namespace qfm
