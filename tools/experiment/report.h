// The report of `qfm experiment`: tables with a row a variant, published figures in a column of their own,
// the differences to the baseline in words.
#pragma once
#include <string>
#include <vector>

#include "tools/experiment/results.h"

namespace qfm {

using Rows = std::vector<std::vector<std::string>>;  // the first row names the columns

// What a report is made of, in order; markdown() and html() print it.
struct Block {
  enum class Kind { Title, Section, Subsection, Paragraph, Table, List, Charts } kind;
  std::string text = {};  // Charts: HTML, which Markdown leaves out
  Rows rows = {};         // Table; List: one cell a row
};

// Everything computed from `results`, as far as they go: "n of N". What needs labels is left out of runs
// without.
std::vector<Block> experiment_report(const Experiment& experiment, const std::vector<RunResult>& results);

std::string markdown(const std::vector<Block>& report);
// One self-contained file.
std::string html(const std::vector<Block>& report);

}  // namespace qfm
