#include "train/data/label_table.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "engine/base/error.h"
#include "engine/base/suggest.h"

namespace qfm {
namespace {

// --fold COLUMN=VALUE applied to rows.
class Fold {
 public:
  Fold(const Header& header, const std::string& fold) : fold_(fold) {
    if (fold.empty()) return;
    std::tie(name_, value_) = parse_fold(fold);
    const auto& columns = header.columns();
    column_ = static_cast<size_t>(std::find(columns.begin(), columns.end(), name_) - columns.begin());
    QFM_CHECK(column_ < columns.size(), header.path(), ": no column ", name_,
              " (found: ", shown(joined(columns)), ")", did_you_mean(name_, columns));
  }
  bool picks(const std::vector<std::string>& fields) {
    ++seen_;
    if (fold_.empty() || fields[column_] == value_) return picked_ = true;
    if (others_.size() < 16) others_.insert(fields[column_]);
    return false;
  }
  void check(const std::string& path) const {
    QFM_CHECK(picked_ || seen_ == 0, path, ": none of ", seen_, " rows has ", fold_,
              " (found: ", shown(joined({others_.begin(), others_.end()})), ")");
  }

 private:
  const std::string fold_;
  std::string name_, value_;
  size_t column_ = 0;
  std::set<std::string> others_;
  int64_t seen_ = 0;
  bool picked_ = false;
};

}  // namespace

std::string joined(const std::vector<std::string>& words) {
  std::string list;
  for (const auto& word : words) list += (list.empty() ? "" : ", ") + word;
  return list;
}

Header::Header(std::string path, std::vector<std::string> columns)
    : path_(std::move(path)), columns_(std::move(columns)) {
  for (const auto& column : columns_) lower_.push_back(lower(column));
}

size_t Header::find(const std::vector<std::string>& names) const {
  size_t found = npos;
  for (size_t i = 0; i < lower_.size(); ++i) {
    const auto same = [&](const std::string& name) { return lower(name) == lower_[i]; };
    if (std::none_of(names.begin(), names.end(), same)) continue;
    QFM_CHECK(found == npos, path_, ": columns ", found + 1, " and ", i + 1, " (", columns_[found], ", ",
              columns_[i], ") both could be the ", names[0]);
    found = i;
  }
  return found;
}

std::vector<std::string> Header::first_of(const std::vector<std::string>& names) const {
  for (const auto& name : names)
    if (std::find(lower_.begin(), lower_.end(), lower(name)) != lower_.end()) return {name};
  return names;
}

size_t Header::need(const std::vector<std::string>& names) const {
  const size_t found = find(names);
  if (found != npos) return found;
  std::string hint;
  for (size_t i = 0; i < names.size() && hint.empty(); ++i) hint = did_you_mean(names[i], columns_);
  if (columns_.size() == 1 && columns_[0].find_first_of(";\t") != std::string::npos)
    hint = "; fields of this table must be separated by commas";
  QFM_FAIL(path_, ": no column ", joined(names), " (found: ", shown(joined(columns_)), ")", hint);
}

Dataset read_rows(RowReader& rows, const Header& header, const TableFormat& format, const std::string& where,
                  const SampleList::Find& find, const DatasetOptions& options) {
  const size_t image = header.need(format.image), score = header.need(format.score),
               std = header.find(format.std), reference = header.find(format.reference),
               split = header.find(format.split), subset = header.find(format.subset), sha256 = header.find(format.sha256);
  Fold fold(header, options.fold);
  SampleList list(rows.path(), header.columns()[score], where, find, options);
  bool bad = false;
  for (std::vector<std::string> fields; rows.next(fields);) {
    if (fields.size() != header.columns().size()) {
      bad = true;
      list.bad(rows.row(), image < fields.size() ? fields[image] : "",
               concat(fields.size(), fields.size() == 1 ? " field, " : " fields, ", "the header has ",
                      header.columns().size()));
      continue;
    }
    if (!fold.picks(fields)) continue;
    const auto optional = [&](size_t column) { return column == Header::npos ? "" : fields[column]; };
    LabelRow text{fields[image],    fields[score],    optional(std),   optional(reference),
                  optional(split), optional(subset), optional(sha256)};
    if (!format.adapt || format.adapt(rows.row(), text)) list.add(rows.row(), text);
  }
  if (!bad) fold.check(rows.path());
  return list.finish();
}

}  // namespace qfm
