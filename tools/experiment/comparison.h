// Runs of one table, and one variant against another in words.
#pragma once
#include <string>
#include <vector>

#include "tools/experiment/results.h"

namespace qfm {

// One table: a data set at a share of its labels. Keeps references.
struct TableRuns {
  const Experiment& experiment;
  const std::vector<RunResult>& results;
  const ExperimentData& data;
  double share;

  // The first line of that run; null: it is not there.
  const RunResult* find(const std::string& variant, int64_t seed) const;
  // By seed, in the order of the experiment's seeds.
  std::vector<const RunResult*> of(const std::string& variant) const;
};

using Figure = std::optional<double> RunResult::*;
// The runs' values that are defined; scores that are all equal have no correlation.
std::vector<double> values_of(const std::vector<const RunResult*>& runs, Figure figure);

// "+0.0205", to four decimals; never "-0.0000".
std::string difference_text(double value);
// SRCC of `variant` against the baseline: median of the pairs of one seed, how it varies, the test.
std::string comparison(const TableRuns& table, const std::string& variant);

}  // namespace qfm
