// The runs of `qfm experiment` and their report: a row a variant, published figures in a column of their own, the
// differences to the baseline in words.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tools/cli/page.h"
#include "tools/cli/results.h"
#include "tools/experiment/definition.h"

namespace qfm {

// A finished run: a line of results.jsonl.
struct RunResult {
  int64_t seed;
  std::string split_sha256, version, commit;
  std::map<std::string, double> figures;  // srcc, plcc, plcc_mapped, krcc, rmse_mapped where defined; seconds
  std::vector<double> losses;             // mean of each epoch
  std::vector<double> scores;             // the tested photos', 0-100, in the order of the test part
  // The photos' labels, as their scores. Not in the line: they are the data set's to publish. Empty: not at hand.
  std::vector<double> labels = {};
  Json line = {};  // all of it

  std::optional<double> figure(const std::string& name) const {
    return figures.contains(name) ? std::optional(figures.at(name)) : std::nullopt;
  }
};
// By ExperimentRun::id, in the order of the lines.
using RunResults = nlohmann::ordered_map<std::string, RunResult>;

// Everything computed from `results`, as far as they go: "n of N". What needs labels is left out of runs without.
Page report_of(const Experiment& experiment, const RunResults& results);

}  // namespace qfm
