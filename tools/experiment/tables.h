// The tables and sentences of `qfm experiment`'s report, as text.
#pragma once
#include <string>
#include <vector>

#include "tools/experiment/report.h"

namespace qfm {

// One table: a data set at a share of its labels.
struct Table {
  const ExperimentData* data;
  double share;
};

// By seed, in the order of the experiment's seeds.
std::vector<const RunResult*> runs_in(const Experiment& e, const std::vector<RunResult>& results,
                                      const Table& t, const std::string& variant);

using Figure = std::optional<double> RunResult::*;
// The runs' values that are defined; scores that are all equal have no correlation.
std::vector<double> values_of(const std::vector<const RunResult*>& runs, Figure figure);

// The first row names the columns.
using Rows = std::vector<std::vector<std::string>>;
// A row a variant: medians over the seeds.
Rows variant_rows(const Experiment& e, const std::vector<RunResult>& results, const Table& t);
// A row a seed and label share that has a run: SRCC of every variant and its difference to the baseline.
Rows split_rows(const Experiment& e, const std::vector<RunResult>& results, const ExperimentData& data);
// Every variant against the baseline, in words; then the splits' hashes with their seeds.
std::vector<std::string> remarks(const Experiment& e, const std::vector<RunResult>& results, const Table& t);

}  // namespace qfm
