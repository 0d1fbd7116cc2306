// The report of `qfm experiment`: a row a variant, published figures in a column of their own, the
// differences to the baseline in words.
#pragma once
#include <string>
#include <vector>

#include "tools/experiment/results.h"

namespace qfm {

// What a report is made of, in order.
struct Block {
  enum Kind { Title, Section, Subsection, Paragraph, Table, List, Charts } kind;
  std::string text = {};  // Charts: HTML, which Markdown leaves out
  // Table: the first one names the columns; List: a cell each.
  std::vector<std::vector<std::string>> rows = {};
};

// Everything computed from `results`, as far as they go: "n of N". What needs labels is left out of runs without.
std::vector<Block> experiment_report(const Experiment& experiment, const std::vector<RunResult>& results);

std::string markdown(const std::vector<Block>& report);
std::string html(const std::vector<Block>& report);  // one self-contained file

}  // namespace qfm
