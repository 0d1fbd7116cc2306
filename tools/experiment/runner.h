// The runs of `qfm experiment`: trained and tested by child processes, a line of results.jsonl each.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "tools/experiment/results.h"

namespace qfm {

struct RunnerOptions {
  std::string out;  // absolute; gets results.jsonl, and runs/ID/ with what the children read and write
  std::string device = "auto";
  bool keep_models = false, quiet = false;
};

class Runner {
 public:
  // Reads the lines that are there and cuts off one that a crash cut short. Throws as read_results, and for a
  // line of another protocol or of other crops. Keeps a reference to `experiment`.
  Runner(RunnerOptions options, const Experiment& experiment);

  const std::vector<RunResult>& results() const { return results_; }
  // The runs that have no line yet. Throws Error where a line was made by other settings.
  std::vector<ExperimentRun> missing();
  // Lines of another experiment serve where all that the figures depend on is equal. How many did.
  int64_t reuse(const std::vector<RunResult>& others);
  // Trains and tests, `jobs` runs at a time on that many threads each; a run's line is written when both are
  // done. What fails is reported on stderr. SIGINT and SIGTERM end it once the children have saved what they
  // have. The number of runs that failed.
  int64_t make(const std::vector<ExperimentRun>& runs, int jobs, int threads);
  // Gives the results the labels of their photos. Throws Error where a data set cannot be read.
  void add_labels();

 private:
  struct Job;
  const TrainTest& split_of(const ExperimentRun& run);
  const std::string& digest_of(const std::string& path);
  std::string key_of(const ExperimentRun& run);
  std::string inputs_of(const ExperimentRun& run);
  bool serves(const RunResult& line, const ExperimentRun& run);
  void add(RunResult result, const ExperimentRun& run);
  std::string folder_of(const ExperimentRun& run) const { return options_.out + "/runs/" + run.id(); }
  int64_t updates(const ExperimentRun& run);

  bool go_on(Job& job);  // false: the run is finished
  void start(Job& job, std::vector<std::string> words, const Dataset& set) const;
  void begin_training(Job& job);
  void begin_testing(Job& job);
  void finish(Job& job);

  const RunnerOptions options_;
  const std::string lines_;  // the path of results.jsonl
  const Experiment& experiment_;
  std::vector<RunResult> results_;
  std::map<std::string, TrainTest> splits_;     // read once for all variants
  std::map<std::string, std::string> digests_;  // SHA-256 of a file, by its path
};

}  // namespace qfm
