#include "train/manifest.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "engine/base/error.h"
#include "engine/base/suggest.h"
#include "train/csv.h"

namespace qfm {
namespace {

namespace fs = std::filesystem;
using Fields = std::vector<std::string>;
constexpr size_t absent = static_cast<size_t>(-1);

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

std::string join(const std::vector<std::string>& words) {
  std::string list;
  for (const auto& word : words) list += (list.empty() ? "" : ", ") + word;
  return list;
}

// The one column called by one of `names`; `absent` where there is none. Throws Error for two.
size_t find_column(const CsvReader& csv, const Fields& header, const std::vector<std::string>& names) {
  size_t found = absent;
  for (size_t i = 0; i < header.size(); ++i) {
    if (std::find(names.begin(), names.end(), header[i]) == names.end()) continue;
    QFM_CHECK(found == absent, csv.path(), ": columns ", found + 1, " and ", i + 1, " (", header[found], ", ",
              header[i], ") both could be the ", names[0]);
    found = i;
  }
  return found;
}

size_t need_column(const CsvReader& csv, const Fields& header, const std::vector<std::string>& names) {
  const size_t found = find_column(csv, header, names);
  if (found != absent) return found;
  std::string hint;
  for (size_t i = 0; i < names.size() && hint.empty(); ++i) hint = did_you_mean(names[i], header);
  if (header.size() == 1 && header[0].find_first_of(";\t") != std::string::npos)
    hint = "; fields of a manifest are separated by commas";
  QFM_FAIL(csv.path(), ": no column ", join(names), " (found: ", shown(join(header)), ")", hint);
}

struct Columns {
  size_t image, score, std, reference, split, fold = absent;
  std::string fold_value;
  size_t count;
};

Columns find_columns(const CsvReader& csv, const Fields& header, const std::string& fold) {
  Fields names;
  for (const auto& name : header) names.push_back(lower(name));
  Columns columns{};
  columns.image = need_column(csv, names, {"image", "path"});
  columns.score = need_column(csv, names, {"score", "mos", "dmos"});
  columns.std = find_column(csv, names, {"std"});
  columns.reference = find_column(csv, names, {"reference"});
  columns.split = find_column(csv, names, {"split"});
  columns.count = header.size();
  columns.fold = absent;
  if (!fold.empty()) {
    const auto [column, value] = parse_fold(fold);
    columns.fold = need_column(csv, header, {column});
    columns.fold_value = value;
  }
  return columns;
}

// Where the image is (train/dataset.h says the order), or empty.
std::string find_image(const std::string& name, const fs::path& folder, const std::string& root) {
  const auto there = [](const fs::path& path) {
    std::error_code error;
    return fs::is_regular_file(path, error);
  };
  if (!root.empty()) return there(fs::path(root) / name) ? (fs::path(root) / name).string() : "";
  if (there(folder / name)) return (folder / name).string();
  return there(folder / "images" / name) ? (folder / "images" / name).string() : "";
}

class ManifestReader {
 public:
  ManifestReader(const std::string& path, const DatasetOptions& options)
      : csv_(path), folder_(fs::path(path).parent_path()), options_(options) {}

  Dataset read() {
    Fields fields;
    QFM_CHECK(csv_.next(fields), csv_.path(), ": empty, expected a header with columns image and score");
    columns_ = find_columns(csv_, fields, options_.fold);
    while (csv_.next(fields)) add(fields);
    const int64_t rows = std::max<int64_t>(csv_.row(), 0);
    QFM_CHECK(bad_ == 0, first_problem_, " (", bad_, bad_ == 1 ? " bad row of " : " bad rows of ", rows, ")");
    QFM_CHECK(rows > 0, csv_.path(), ": a header but no rows");
    QFM_CHECK(!samples_.empty(), csv_.path(), ": none of ", rows, " rows has ", options_.fold,
              " (found: ", shown(join({fold_values_.begin(), fold_values_.end()})), ")");
    return dataset();
  }

 private:
  void add(const Fields& fields) {
    try {
      QFM_CHECK(fields.size() == columns_.count, fields.size(), fields.size() == 1 ? " field, " : " fields, ",
                "the header has ", columns_.count);
      if (columns_.fold != absent && fields[columns_.fold] != columns_.fold_value) {
        if (fold_values_.size() < 16) fold_values_.insert(fields[columns_.fold]);
        return;
      }
      samples_.push_back(sample(fields));
    } catch (const Error& problem) {
      if (bad_++ > 0) return;
      const bool named = columns_.image < fields.size() && !fields[columns_.image].empty();
      first_problem_ =
          concat(csv_.place(), named ? " (" + shown(fields[columns_.image]) + ")" : "", ": ", problem.what());
    }
  }

  Sample sample(const Fields& fields) {
    const auto optional = [&](size_t column) { return column == absent ? std::string() : fields[column]; };
    Sample s;
    s.name = fields[columns_.image];
    QFM_CHECK(!s.name.empty(), "no image name");
    s.score = number("score ", fields[columns_.score]);
    if (const auto& scale = options_.scale)
      QFM_CHECK(s.score >= scale->low && s.score <= scale->high, "score ", s.score,
                " is outside the label range ", scale->low, ":", scale->high);
    if (const auto text = optional(columns_.std); !text.empty()) {
      s.std = number("std ", text);
      QFM_CHECK(*s.std >= 0, "std ", *s.std, " is negative");
    }
    s.reference = optional(columns_.reference);
    s.split = optional(columns_.split);
    s.path = find_image(s.name, folder_, options_.root);
    QFM_CHECK(!s.path.empty(), "no such image file ",
              options_.root.empty() ? "beside the table or in images/ there" : "in " + options_.root);
    const auto [earlier, fresh] =
        row_of_.try_emplace(fs::path(s.path).lexically_normal().string(), csv_.row());
    QFM_CHECK(fresh, "the same image as row ", earlier->second);
    return s;
  }

  static double number(const char* what, const std::string& text) {
    try {
      return parse_number(text);
    } catch (const Error& problem) {
      QFM_FAIL(what, problem.what());
    }
  }

  Dataset dataset() {
    Dataset set;
    set.name = csv_.path();
    set.samples = std::move(samples_);
    set.higher_is_better = !options_.lower_is_better;
    set.range_observed = !options_.scale;
    const auto [least, most] =
        std::minmax_element(set.samples.begin(), set.samples.end(),
                            [](const Sample& a, const Sample& b) { return a.score < b.score; });
    set.range = options_.scale.value_or(Range{least->score, most->score});
    return set;
  }

  CsvReader csv_;
  fs::path folder_;
  const DatasetOptions& options_;
  Columns columns_{};
  std::vector<Sample> samples_;
  std::map<std::string, int64_t> row_of_;
  std::set<std::string> fold_values_;
  int64_t bad_ = 0;
  std::string first_problem_;
};

}  // namespace

Dataset load_manifest(const std::string& path, const DatasetOptions& options) {
  return ManifestReader(path, options).read();
}

}  // namespace qfm
