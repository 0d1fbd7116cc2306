#include "tools/experiment/runs.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/base/error.h"
#include "engine/base/io.h"
#include "engine/base/sha256.h"
#include "tools/cli/console.h"
#include "tools/cli/version.h"
#include "tools/experiment/child.h"
#include "train/data/manifest.h"
#include "train/image/photo_files.h"
#include "train/loop/batch_stream.h"
#include "train/run/config.h"
#include "train/run/run_folder.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;

// The photos' names, not where they lie on this machine.
std::string split_hash(const TrainTest& parts) {
  std::string text;
  for (const auto& s : parts.train.samples) text += "train " + s.name + "\n";
  for (const auto& s : parts.test.samples) text += "test " + s.name + "\n";
  return sha256(std::vector<uint8_t>(text.begin(), text.end()));
}

void say_labels(std::vector<std::string>& words, const Dataset& set) {
  words.insert(words.end(), {"--scale", format("%.17g:%.17g", set.range.low, set.range.high)});
  if (!set.higher_is_better) words.push_back("--lower-is-better");
}

// Says whose run it is, and what all runs of the experiment share.
void name(RunResult& r, const ExperimentRun& run, const Experiment& e) {
  r.id = run.id(), r.data = run.data->name, r.variant = run.variant->name, r.label_share = run.label_share;
  r.seed = run.seed, r.protocol = e.protocol, r.crops = e.crops;
  r.truncated_schedule = run.variant->truncated_schedule;
}

RunResult result_of(const Json& tested) {
  const Json& m = tested.at("metrics");
  const auto figure = [&](const char* key) {
    return m.at(key).is_null() ? std::nullopt : std::optional(m.at(key).get<double>());
  };
  RunResult r;
  r.version = version(), r.commit = commit();
  r.srcc = figure("srcc"), r.plcc = figure("plcc"), r.plcc_mapped = figure("plcc_mapped");
  r.krcc = figure("krcc"), r.rmse_mapped = figure("rmse_mapped");
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

TrainConfig config_of(const ExperimentRun& run) {
  TrainConfig config;
  merge_config(config, run.variant->flags, "flags");
  return config;
}

// The last "step" of a log that may be growing; 0: none yet. Only its end is read.
int64_t last_step(const std::string& log) {
  std::ifstream file(log, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : 0;
  file.seekg(std::max<std::streamoff>(0, size - 4096));
  const std::string tail{std::istreambuf_iterator<char>(file), {}};
  for (size_t end = tail.rfind('\n'); end != std::string::npos && end > 0;) {
    const size_t before = tail.rfind('\n', end - 1), start = before == std::string::npos ? 0 : before + 1;
    const Json event = Json::parse(tail.substr(start, end - start), nullptr, false);
    if (event.is_object() && event.contains("step")) return event["step"];
    end = before;
  }
  return 0;
}

}  // namespace

std::vector<RunResult> read_results(const std::string& path) {
  std::vector<RunResult> results;
  std::istringstream lines(read_text(path));
  for (std::string line; std::getline(lines, line) && !lines.eof();) try {
      results.push_back(RunResult::from(Json::parse(line)));
    } catch (const std::exception& e) {
      QFM_FAIL(path, ": line ", results.size() + 1, ": ", e.what());
    }
  return results;
}

void check_protocol(const RunResult& r, const Experiment& e, const std::string& where) {
  QFM_CHECK((r.protocol.empty() || r.protocol == e.protocol) && (r.crops.empty() || r.crops == e.crops),
            where, ": run ", r.id, " was made with protocol ", r.protocol, " and crops ", r.crops,
            ": give another --out");
}

ResultLines::ResultLines(std::string path) : path_(std::move(path)) {
  if (!fs::exists(path_)) return;
  results = read_results(path_);
  fs::resize_file(path_, read_text(path_).rfind('\n') + 1);
}

void ResultLines::add(RunResult result) {
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

size_t ResultLines::count() const {
  const std::lock_guard lock(mutex_);
  return results.size();
}

std::vector<ExperimentRun> Runner::missing() {
  std::vector<ExperimentRun> runs;
  for (const auto& run : runs_of(experiment_)) {
    const auto line =
        std::find_if(lines_.results.begin(), lines_.results.end(), [&](auto& r) { return r.id == run.id(); });
    if (line == lines_.results.end()) runs.push_back(run);
    else
      QFM_CHECK(serves(*line, run), options_.out, ": run ", run.id(),
                " was made with other settings or photos, or other labels, --init, --teacher or "
                "--unlabelled: give another "
                "--out");
  }
  return runs;
}

int64_t Runner::reuse(const std::vector<RunResult>& others) {
  int64_t reused = 0;
  for (const auto& run : missing()) {
    const auto same =
        std::find_if(others.begin(), others.end(), [&](const RunResult& r) { return serves(r, run); });
    if (same == others.end()) continue;
    RunResult result = *same;
    name(result, run, experiment_);
    lines_.add(std::move(result));
    ++reused;
  }
  return reused;
}

int64_t Runner::updates(const ExperimentRun& run) {
  const TrainConfig config = config_of(run);
  LoaderOptions options;
  options.batch = config.batch, options.crops_per_image = config.crops_per_image;
  const Options& o = config.objectives;
  if (!o.text("unlabelled").empty()) options.batch = labelled_rows(config.batch, o.number("pseudo-ratio"));
  return config.epochs * batches_of(static_cast<int64_t>(split_of(run).train.samples.size()), options);
}

int64_t Runner::updates_made(const ExperimentRun& run) const {
  return last_step(options_.out + "/runs/" + run.id() + "/model/log.jsonl");
}

void Runner::add_labels(std::vector<RunResult>& results) {
  for (const auto& run : runs_of(experiment_))
    for (RunResult& r : results) {
      if (r.id != run.id()) continue;
      const TrainTest& parts = split_of(run);
      if (split_hash(parts) != r.split || parts.test.samples.size() != r.scores.size()) continue;
      r.labels.clear();
      for (const auto& s : parts.test.samples) r.labels.push_back(rounded(parts.test.quality(s.score)));
    }
}

RunResult Runner::run(const ExperimentRun& run, int threads) {
  const auto begin = std::chrono::steady_clock::now();
  const std::string folder = options_.out + "/runs/" + run.id();
  fs::create_directories(folder);
  // Where this experiment was killed a moment ago, its run is still saving.
  QFM_CHECK(run_folder_is_free(folder + "/model", 60), folder, ": another process trains here");
  const TrainTest& parts = split_of(run);
  const std::string inputs = inputs_of(run, parts), begun = folder + "/inputs.txt";
  if (fs::exists(begun) && read_text(begun) != inputs) fs::remove_all(folder + "/model");
  write_file(begun, inputs);
  write_file(folder + "/train.csv", manifest_text(parts.train, ImagesBy::Path));
  write_file(folder + "/test.csv", manifest_text(parts.test, ImagesBy::Path));
  write_file(folder + "/flags.json", run.variant->flags + "\n");
  train(run, folder, parts.train, threads);
  RunResult result = result_of(test(folder, parts.test, threads));
  name(result, run, experiment_);
  result.key = key_of(run, parts), result.inputs = inputs, result.split = split_hash(parts);
  result.losses = losses_of(folder + "/model/log.jsonl");
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  lines_.add(result);
  if (options_.keep_models) return result;
  for (const auto& entry : fs::directory_iterator(folder + "/model"))
    if (entry.path().extension() == ".safetensors") fs::remove(entry.path());
  return result;
}

// The references of a map stay good as it grows.
const TrainTest& Runner::split_of(const ExperimentRun& run) {
  const std::lock_guard lock(mutex_);
  const std::string key = concat(run.data->name, "/", run.label_share, "/", run.seed);
  const auto found = splits_.find(key);
  if (found != splits_.end()) return found->second;
  return splits_.emplace(key, split_for(*run.data, run.label_share, run.seed)).first->second;
}

namespace {

// Without the settings that are younger than the first results, where they are not given.
std::string settings_of(const TrainConfig& config) {
  auto settings = nlohmann::ordered_json::parse(to_json(config));
  if (config.resize.empty()) settings.erase("resize");
  return settings.dump(2) + "\n";
}

}  // namespace

std::string Runner::key_of(const ExperimentRun& run, const TrainTest& parts) const {
  const std::string text = concat(settings_of(config_of(run)), split_hash(parts), run.seed,
                                  experiment_.protocol, experiment_.crops, parts.train.range.low, ":",
                                  parts.train.range.high, parts.train.higher_is_better);
  return sha256(std::vector<uint8_t>(text.begin(), text.end()));
}

std::string Runner::inputs_of(const ExperimentRun& run, const TrainTest& parts) {
  const TrainConfig config = config_of(run);
  std::string text;
  for (const auto& s : parts.train.samples) text += format("train %.17g\n", s.score);
  for (const auto& s : parts.test.samples) text += format("test %.17g\n", s.score);
  for (const auto& file : {config.init, config.objectives.text("teacher")})
    text += (file.empty() ? "none" : digest_of(file)) + "\n";
  if (const std::string& unlabelled = config.objectives.text("unlabelled"); !unlabelled.empty())
    for (const auto& photo : photos_in(unlabelled, true)) text += digest_of(photo) + "\n";
  return sha256(std::vector<uint8_t>(text.begin(), text.end()));
}

const std::string& Runner::digest_of(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const auto found = digests_.find(path);
  if (found != digests_.end()) return found->second;
  return digests_.emplace(path, sha256_of_file(path)).first->second;
}

// The key first: the files need not be there to see that another run made the line.
bool Runner::serves(const RunResult& line, const ExperimentRun& run) {
  const TrainTest& parts = split_of(run);
  return line.key == key_of(run, parts) && (line.inputs.empty() || line.inputs == inputs_of(run, parts));
}

void Runner::call(std::vector<std::string> words, const std::string& folder, int threads) const {
  words.insert(words.end(), {"--threads", std::to_string(threads), "--device", options_.device, "--quiet"});
  const std::string log = folder + "/talk.txt";
  const int code = run_self(words, log);
  if (code == 0) return;
  const std::string talk = read_text(log);
  const size_t end = talk.find_last_not_of('\n'), start = talk.rfind('\n', end);
  QFM_FAIL(
      folder, ": ", words[0], " ended with ", code, ": ",
      end == std::string::npos ? "" : talk.substr(start == std::string::npos ? 0 : start + 1, end - start));
}

void Runner::train(const ExperimentRun& run, const std::string& folder, const Dataset& set,
                   int threads) const {
  const std::string out = folder + "/model";
  std::vector<std::string> words{
      "train", "--config", folder + "/flags.json",  "--data", folder + "/train.csv", "--out",
      out,     "--seed",   std::to_string(run.seed)};
  say_labels(words, set);
  if (experiment_.protocol == "paper")
    words.insert(words.end(), {"--protocol", "paper", "--val", folder + "/test.csv"});
  // A new run writes its state, then its config; at the end of a run its state is removed here.
  if (fs::exists(out + "/config.json") && fs::exists(out + "/state.safetensors")) words.push_back("--resume");
  else fs::remove_all(out);
  call(words, folder, threads);
}

Json Runner::test(const std::string& folder, const Dataset& set, int threads) const {
  const std::string model = experiment_.protocol == "paper" ? "best" : "last", report = folder + "/eval.json";
  std::vector<std::string> words{"eval",
                                 "--data",
                                 folder + "/test.csv",
                                 "--model",
                                 folder + "/model/" + model + ".safetensors",
                                 "--crops",
                                 experiment_.crops,
                                 "-o",
                                 report};
  say_labels(words, set);
  call(words, folder, threads);
  return Json::parse(read_text(report));
}

}  // namespace qfm
