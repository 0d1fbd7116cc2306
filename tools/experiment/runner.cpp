#include "tools/experiment/runner.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <list>
#include <thread>

#include "engine/base/error.h"
#include "engine/base/io.h"
#include "engine/base/sha256.h"
#include "tools/cli/console.h"
#include "tools/cli/version.h"
#include "train/data/manifest.h"
#include "train/image/photo_files.h"
#include "train/loop/batch_stream.h"
#include "train/run/run_folder.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

std::atomic<bool> stopping{false};
void ask_to_stop(int) { stopping.store(true); }

std::string sha256_of(const std::string& text) {
  return sha256(std::vector<uint8_t>(text.begin(), text.end()));
}

// The photos' names, not where they lie on this machine.
std::string split_hash(const TrainTest& parts) {
  std::string text;
  for (const auto& s : parts.train.samples) text += "train " + s.name + "\n";
  for (const auto& s : parts.test.samples) text += "test " + s.name + "\n";
  return sha256_of(text);
}

// Without the settings that are younger than the first results, where they are not given.
std::string settings_of(const TrainConfig& config) {
  auto settings = Json::parse(to_json(config));
  if (!*config.resize) settings.erase("resize");
  return settings.dump(2) + "\n";
}

// What `qfm eval` measured.
RunResult result_of(const std::string& report) {
  const Json tested = Json::parse(read_text(report));
  RunResult r;
  r.version = version(), r.commit = commit();
  take_figures(tested.at("metrics"), r);
  for (const Json& photo : tested.at("photos")) r.scores.push_back(photo.at("score"));
  return r;
}

std::vector<double> losses_of(const std::string& log) {
  std::vector<double> losses;
  std::ifstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    const Json event = Json::parse(line);
    if (event.value("event", "") == "epoch") losses.push_back(event.at("loss"));
  }
  return losses;
}

// The updates in a log, which may be growing; 0: none yet. Only its end is read.
int64_t last_step(const std::string& log) {
  std::ifstream file(log, std::ios::binary | std::ios::ate);
  if (!file) return 0;
  file.seekg(std::max<std::streamoff>(0, static_cast<std::streamoff>(file.tellg()) - 4096));
  std::string tail{std::istreambuf_iterator<char>(file), {}};
  tail.resize(tail.rfind('\n') + 1);  // npos + 1 is 0
  constexpr std::string_view key = "\"step\":";
  const size_t at = tail.rfind(key);
  return at == std::string::npos ? 0 : std::strtoll(tail.c_str() + at + key.size(), nullptr, 10);
}

std::string last_line(std::string text) {
  text.resize(text.find_last_not_of('\n') + 1);
  return text.substr(text.rfind('\n') + 1);
}

// Only what is safe between fork and exec.
[[noreturn]] void become(char* const* argv, int log, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(127);  // it died before prctl
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execv("/proc/self/exe", argv);
  ::_exit(127);
}

// Starts this program with `arguments`, its output and diagnostics appended to the file `log`. It gets
// SIGTERM when the calling thread ends. Throws Error where it cannot be started.
pid_t start_self(const std::vector<std::string>& arguments, const std::string& log) {
  std::vector<std::string> words{"qfm"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (auto& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  const FileDescriptor file(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  QFM_CHECK(file.get() >= 0, log, ": ", std::strerror(errno));
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) become(argv.data(), file.get(), parent);
  QFM_CHECK(child > 0, "a process cannot be started: ", std::strerror(errno));
  return child;
}

// The exit code, or 128 + the signal that ended it, once; nullopt while it runs.
std::optional<int> ended(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, WNOHANG) != child) return std::nullopt;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// "BIQ2021/full/share-1/seed-0  SRCC 0.7280  9 min 02 s".
std::string line_of(const RunResult& r) {
  return r.id + (r.srcc ? format("  SRCC %.4f  ", *r.srcc) : "  SRCC undefined  ") + duration(r.seconds) +
         (r.protocol == "paper" ? "  (protocol paper)\n" : "\n");
}

}  // namespace

Runner::Runner(RunnerOptions options, const Experiment& experiment)
    : options_(std::move(options)), lines_(options_.out + "/results.jsonl"), experiment_(experiment) {
  if (!fs::exists(lines_)) return;
  results_ = read_results(lines_);
  cut_last_line(lines_);
  for (const RunResult& r : results_)
    QFM_CHECK((r.protocol.empty() || r.protocol == experiment.protocol) &&
                  (r.crops.empty() || r.crops == experiment.crops),
              options_.out, ": run ", r.id, " was made with protocol ", r.protocol, " and crops ", r.crops,
              ": give another --out");
}

std::vector<ExperimentRun> Runner::missing() {
  std::vector<ExperimentRun> runs;
  for (const auto& run : runs_of(experiment_)) {
    const auto line =
        std::find_if(results_.begin(), results_.end(), [&](auto& r) { return r.id == run.id(); });
    if (line == results_.end()) runs.push_back(run);
    else
      QFM_CHECK(serves(*line, run), options_.out, ": run ", run.id(),
                " was made with other settings or photos, or other labels, --init, --teacher or "
                "--unlabelled: give another --out");
  }
  return runs;
}

int64_t Runner::reuse(const std::vector<RunResult>& others) {
  int64_t reused = 0;
  for (const auto& run : missing()) {
    const auto same =
        std::find_if(others.begin(), others.end(), [&](const RunResult& r) { return serves(r, run); });
    if (same == others.end()) continue;
    add(*same, run);
    ++reused;
  }
  return reused;
}

// Completes the line with whose run it is, and what all runs of the experiment share.
void Runner::add(RunResult r, const ExperimentRun& run) {
  r.id = run.id(), r.data = run.data->name, r.variant = run.variant->name, r.label_share = run.label_share;
  r.seed = run.seed, r.protocol = experiment_.protocol, r.crops = experiment_.crops;
  r.schedule = run.variant->truncated_schedule ? "truncated" : "";
  append_result(lines_, r);
  results_.push_back(std::move(r));
}

void Runner::add_labels() {
  for (const auto& run : runs_of(experiment_))
    for (RunResult& r : results_) {
      if (r.id != run.id()) continue;
      const TrainTest& parts = split_of(run);
      if (split_hash(parts) != r.split || parts.test.samples.size() != r.scores.size()) continue;
      r.labels.clear();
      for (const auto& s : parts.test.samples) r.labels.push_back(rounded(parts.test.quality(s.score)));
    }
}

// ---- what a line serves for ----

// The references of a map stay good as it grows.
const TrainTest& Runner::split_of(const ExperimentRun& run) {
  const auto at = splits_.try_emplace(concat(run.data->name, "/", run.label_share, "/", run.seed)).first;
  if (at->second.test.samples.empty()) at->second = split_for(*run.data, run.label_share, run.seed);
  return at->second;
}

const std::string& Runner::digest_of(const std::string& path) {
  std::string& digest = digests_[path];
  if (digest.empty()) digest = sha256_of_file(path);
  return digest;
}

std::string Runner::key_of(const ExperimentRun& run) {
  const TrainTest& parts = split_of(run);
  const Dataset& train = parts.train;
  return sha256_of(concat(settings_of(run.variant->config), split_hash(parts), run.seed, experiment_.protocol,
                          experiment_.crops, train.range.low, ":", train.range.high, train.higher_is_better));
}

std::string Runner::inputs_of(const ExperimentRun& run) {
  const TrainConfig& config = run.variant->config;
  const TrainTest& parts = split_of(run);
  std::string text;
  for (const auto& s : parts.train.samples) text += format("train %.17g\n", s.score);
  for (const auto& s : parts.test.samples) text += format("test %.17g\n", s.score);
  for (const auto& file : {config.init, config.objectives.text("teacher")})
    text += (file.empty() ? "none" : digest_of(file)) + "\n";
  if (const std::string& unlabelled = config.objectives.text("unlabelled"); !unlabelled.empty())
    for (const auto& photo : photos_in(unlabelled, true)) text += digest_of(photo) + "\n";
  return sha256_of(text);
}

// Whether the line's figures are what `run` would give. The key first: the files need not be there to see
// that another run made the line.
bool Runner::serves(const RunResult& line, const ExperimentRun& run) {
  return line.key == key_of(run) && (line.inputs.empty() || line.inputs == inputs_of(run));
}

// ---- making runs ----

struct Runner::Job {
  ExperimentRun run;
  int threads;
  std::string folder, inputs = {};
  pid_t child = 0;  // trains, then tests; 0: not begun
  bool testing = false;
  Clock::time_point begun = Clock::now();
};

int64_t Runner::make(const std::vector<ExperimentRun>& runs, int jobs, int threads) {
  std::signal(SIGINT, ask_to_stop), std::signal(SIGTERM, ask_to_stop);
  int64_t total = 0, failed = 0;
  for (const auto& run : runs) total += updates(run);
  const auto made = [&] {
    int64_t steps = 0;
    for (const auto& run : runs) steps += last_step(folder_of(run) + "/model/log.jsonl");
    return steps;
  };
  const int64_t begun = made();
  const size_t all = runs_of(experiment_).size();
  Progress progress(options_.quiet, "updates", total, begun);
  // A run that is begun anew takes back the updates of its log: never below the start.
  const auto show = [&] {
    progress.update(std::max(begun, made()), format("%zu of %zu runs done", results_.size(), all));
  };
  const auto over = [&](Job& job) {
    try {
      if (go_on(job)) return false;
      progress.clear();
      note(options_.quiet, line_of(results_.back()));
    } catch (const std::exception& error) {
      if (stopping) return true;
      ++failed, progress.clear();
      warn(error_line(error.what()));
    }
    show();
    return true;
  };
  std::list<Job> active;
  auto next = runs.begin();
  for (int tick = 1;; ++tick) {
    while (!stopping && next != runs.end() && std::ssize(active) < jobs)
      active.push_back({*next, threads, folder_of(*next)}), ++next;
    if (active.empty()) return failed;
    std::erase_if(active, over);
    if (tick % 100 == 0) show();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

int64_t Runner::updates(const ExperimentRun& run) {
  const TrainConfig& config = run.variant->config;
  LoaderOptions options;
  options.batch = config.batch, options.crops_per_image = config.crops_per_image;
  const Options& o = config.objectives;
  if (!o.text("unlabelled").empty()) options.batch = labelled_rows(config.batch, o.number("pseudo-ratio"));
  return config.epochs * batches_of(std::ssize(split_of(run).train.samples), options);
}

bool Runner::go_on(Job& job) {
  if (!job.child) {
    begin_training(job);
    return true;
  }
  if (stopping) ::kill(job.child, SIGTERM);
  const auto code = ended(job.child);
  if (!code) return true;
  QFM_CHECK(*code == 0, job.folder, ": ", job.testing ? "eval" : "train", " ended with ", *code, ": ",
            last_line(read_text(job.folder + "/talk.txt")));
  if (!job.testing) {
    begin_testing(job);
    return true;
  }
  finish(job);
  return false;
}

void Runner::start(Job& job, std::vector<std::string> words, const Dataset& set) const {
  words.insert(words.end(), {"--scale", format("%.17g:%.17g", set.range.low, set.range.high)});
  if (!set.higher_is_better) words.push_back("--lower-is-better");
  words.insert(words.end(),
               {"--threads", std::to_string(job.threads), "--device", options_.device, "--quiet"});
  job.child = start_self(words, job.folder + "/talk.txt");
}

void Runner::begin_training(Job& job) {
  const std::string &folder = job.folder, out = folder + "/model", begun = folder + "/inputs.txt";
  fs::create_directories(folder);
  // Where this experiment was killed a moment ago, its run is still saving.
  QFM_CHECK(run_folder_is_free(out, 60), folder, ": another process trains here");
  const TrainTest& parts = split_of(job.run);
  job.inputs = inputs_of(job.run);
  if (fs::exists(begun) && read_text(begun) != job.inputs) fs::remove_all(out);
  write_file(begun, job.inputs);
  write_file(folder + "/train.csv", manifest_text(parts.train, ImagesBy::Path));
  write_file(folder + "/test.csv", manifest_text(parts.test, ImagesBy::Path));
  write_file(folder + "/flags.json", job.run.variant->flags + "\n");
  std::vector<std::string> words{
      "train", "--config", folder + "/flags.json",      "--data", folder + "/train.csv", "--out",
      out,     "--seed",   std::to_string(job.run.seed)};
  if (experiment_.protocol == "paper")
    words.insert(words.end(), {"--protocol", "paper", "--val", folder + "/test.csv"});
  // A new run writes its state, then its config; at the end of a run its state is removed here.
  if (fs::exists(out + "/config.json") && fs::exists(out + "/state.safetensors")) words.push_back("--resume");
  else fs::remove_all(out);
  start(job, std::move(words), parts.train);
}

void Runner::begin_testing(Job& job) {
  job.testing = true;
  const std::string& folder = job.folder;
  const std::string model = experiment_.protocol == "paper" ? "best" : "last";
  start(job,
        {"eval", "--data", folder + "/test.csv", "--model", folder + "/model/" + model + ".safetensors",
         "--crops", experiment_.crops, "-o", folder + "/eval.json"},
        split_of(job.run).test);
}

void Runner::finish(Job& job) {
  RunResult result = result_of(job.folder + "/eval.json");
  result.key = key_of(job.run), result.inputs = job.inputs, result.split = split_hash(split_of(job.run));
  result.losses = losses_of(job.folder + "/model/log.jsonl");
  result.seconds = rounded(std::chrono::duration<double>(Clock::now() - job.begun).count());
  add(std::move(result), job.run);
  if (options_.keep_models) return;
  for (const auto& entry : fs::directory_iterator(job.folder + "/model"))
    if (entry.path().extension() == ".safetensors") fs::remove(entry.path());
}

}  // namespace qfm
