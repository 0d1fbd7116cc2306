// Label tables with a header: which column is what, and their rows as a Dataset.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "train/data/csv.h"
#include "train/data/sample_list.h"

namespace qfm {

// The columns of a table, by their names without regard to letter case.
class Header {
 public:
  Header(std::string path, std::vector<std::string> columns);
  // The one column called by one of `names`, npos where there is none. Throws Error for two.
  size_t find(const std::vector<std::string>& names) const;
  // The first of `names` that is a column: where a table may well have several of them.
  std::vector<std::string> first_of(const std::vector<std::string>& names) const;
  // The same, but throws Error "PATH: no column score, mos (found: image, scor); did you mean 'scor'?".
  size_t need(const std::vector<std::string>& names) const;
  const std::string& path() const { return path_; }
  const std::vector<std::string>& columns() const { return columns_; }
  static constexpr size_t npos = static_cast<size_t>(-1);

 private:
  std::string path_;
  std::vector<std::string> columns_, lower_;
};

// What the columns of a table are called, any of the names; no names: it has no such column.
struct TableFormat {
  std::vector<std::string> image, score, std, reference, split, subset = {}, sha256 = {};
  // Finishes a row; false drops it. Null: rows stay as they are.
  std::function<bool(int64_t row, LabelRow& text)> adapt = {};
};
// The rest of a table whose header was `header`. options.fold picks rows by a column's text as in the table.
Dataset read_rows(RowReader& rows, const Header& header, const TableFormat& format, const std::string& where,
                  const SampleList::Find& find, const DatasetOptions& options);

std::string joined(const std::vector<std::string>& words);  // "a, b, c"

}  // namespace qfm
