// The result of `qfm experiment`: its lines, tables and pages.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tools/cli/results.h"
#include "tools/experiment/definition.h"

namespace qfm {

// A line of results.jsonl.
struct RunResult {
  // key: SHA-256 of settings, seed, protocol, and the names of the photos. inputs: of the photos' labels and
  // of the files that --init and --teacher lead to; empty in lines of before it was kept.
  std::string id, key, inputs;
  std::string data, variant, split, version, commit;
  std::string protocol, crops;      // empty in lines of before they were kept
  bool truncated_schedule = false;  // kept since lines say so; tables go by the variant's flags
  double label_share = 1;
  int64_t seed = 0;
  std::optional<double> srcc, plcc, plcc_mapped, krcc, rmse_mapped;
  double seconds = 0;          // of training and testing
  std::vector<double> losses;  // mean of each epoch
  std::vector<double> scores;  // of the tested photos, 0-100, in the order of the test part
  // The same of their labels. Not in the line: labels are the data set's to publish. Empty where it is not at
  // hand.
  std::vector<double> labels;

  Json json() const;
  static RunResult from(const Json& line);  // throws Error for a line that is not one
};

// Tables with a row a variant, published figures in a column of their own, the differences to the baseline in
// words. What needs labels is left out of runs without. Everything computed from `results`, as far as they
// go: "n of N".
std::string experiment_markdown(const Experiment& experiment, const std::vector<RunResult>& results);
// The same, one self-contained file with the per-run values, loss curves and a scatter plot.
std::string experiment_html(const Experiment& experiment, const std::vector<RunResult>& results);

}  // namespace qfm
