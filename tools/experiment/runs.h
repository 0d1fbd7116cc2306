// The runs of `qfm experiment`: trained and tested by child processes, a line of results.jsonl each.
#pragma once
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tools/experiment/report.h"

namespace qfm {

// The lines of a results.jsonl, without one that a crash cut short. Throws Error "PATH: line 3: reason".
std::vector<RunResult> read_results(const std::string& path);

// Throws Error "WHERE: run ID was made with ..." for a line of another protocol or of other crops.
void check_protocol(const RunResult& result, const Experiment& experiment, const std::string& where);

// results.jsonl, appended to, a line by one write.
class ResultLines {
 public:
  // Reads what is there and cuts off a line that a crash cut short. Throws as read_results.
  explicit ResultLines(std::string path);
  // Throws Error where the line cannot be written whole and kept.
  void add(RunResult result);
  size_t count() const;

  std::vector<RunResult> results;  // while runs are added by other threads: count() only

 private:
  const std::string path_;
  mutable std::mutex mutex_;
};

struct RunnerOptions {
  std::string out;     // absolute; gets runs/ID/ with what the children read and write
  std::string device;  // as --device
  bool keep_models = false;
};

class Runner {
 public:
  // Keeps references to experiment and lines.
  Runner(RunnerOptions options, const Experiment& experiment, ResultLines& lines)
      : options_(std::move(options)), experiment_(experiment), lines_(lines) {}

  // The runs that have no line yet. Throws Error where a line was made by other settings.
  std::vector<ExperimentRun> missing();
  // Lines of another experiment serve where all that the figures depend on is equal. How many did.
  int64_t reuse(const std::vector<RunResult>& others);
  // Updates that the training of a run takes, and those that its log says were made.
  int64_t updates(const ExperimentRun& run);
  int64_t updates_made(const ExperimentRun& run) const;
  // Gives the results the labels of their photos. Throws Error where a data set cannot be read.
  void add_labels(std::vector<RunResult>& results);
  // Trains and tests; the line, also returned, is written when both are done. May be called from several
  // threads. Throws Error.
  RunResult run(const ExperimentRun& run, int threads);

 private:
  const TrainTest& split_of(const ExperimentRun& run);
  std::string key_of(const ExperimentRun& run, const TrainTest& parts) const;
  std::string inputs_of(const ExperimentRun& run, const TrainTest& parts);
  // Whether the line's figures are what `run` would give.
  bool serves(const RunResult& line, const ExperimentRun& run);
  const std::string& digest_of(const std::string& path);
  void call(std::vector<std::string> words, const std::string& folder, int threads) const;
  void train(const ExperimentRun& run, const std::string& folder, const Dataset& set, int threads) const;
  Json test(const std::string& folder, const Dataset& set, int threads) const;

  const RunnerOptions options_;
  const Experiment& experiment_;
  ResultLines& lines_;
  std::mutex mutex_;
  std::map<std::string, TrainTest> splits_;     // read once for all variants
  std::map<std::string, std::string> digests_;  // SHA-256 of a file, by its path
};

}  // namespace qfm
