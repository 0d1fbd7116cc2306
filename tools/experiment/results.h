// What is kept of a finished run: a line of results.jsonl.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tools/cli/results.h"
#include "tools/experiment/definition.h"

namespace qfm {

struct RunResult {
  // key: SHA-256 of settings, seed, protocol, and the names of the photos. inputs: of the photos' labels and
  // of the files that --init and --teacher lead to; empty in lines of before it was kept.
  std::string id, key, inputs;
  std::string data, variant, split, version, commit;
  std::string protocol, crops;  // empty in lines of before they were kept
  std::string schedule;         // "truncated" or empty; tables go by the variant's flags
  double label_share = 1;
  int64_t seed = 0;
  std::optional<double> srcc, plcc, plcc_mapped, krcc, rmse_mapped;
  double seconds = 0;          // spent on training and testing
  std::vector<double> losses;  // mean of each epoch
  std::vector<double> scores;  // the tested photos', 0-100, in the order of the test part
  // The same of their labels. Not in the line: labels are the data set's to publish. Empty where it is not at hand.
  std::vector<double> labels;
};

// The figures in the "metrics" of `qfm eval -o FILE.json`.
void take_figures(const Json& metrics, RunResult& result);

// The lines of a results.jsonl, without one that a crash cut short. Throws Error "PATH: line 3: reason".
std::vector<RunResult> read_results(const std::string& path);
// Cuts off what follows the last line end: the line that a crash cut short.
void cut_last_line(const std::string& path);
// Throws Error where the line cannot be written whole and kept.
void append_result(const std::string& path, const RunResult& result);

}  // namespace qfm
