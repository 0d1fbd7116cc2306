// The rows of a label table on their way to a Dataset: one policy for every format.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "train/data/dataset.h"

namespace qfm {

// One row, as text; empty = not given.
struct LabelRow {
  std::string image, score, std, reference, split, subset = {}, sha256 = {};
};

struct FoundImage {
  std::string name, path;  // path empty: there is no such file
};

// `name` as a file below `folder` has it: so, or in Unicode's NFC or NFD as a whole; empty where there is no such file.
std::string name_on_disk(const std::filesystem::path& folder, const std::string& name);

// The images below a folder, found by their names as in the label table, exactly or, where there is no such
// file, without regard to letter case (A-Z) and to whether accents are letters of their own (Unicode's NFC and NFD).
class ImageFolder {
 public:
  // Names are relative to root/inside; found names are relative to root.
  explicit ImageFolder(std::string root, std::string inside = "");
  // Throws Error where two files differ in letter case only and neither is exactly the one asked for.
  FoundImage find(const std::string& image);
  std::string where() const { return (root_ / inside_).string(); }

 private:
  using Listing = std::multimap<std::string, std::string>;  // folded -> as on disk
  const Listing& listing(const std::filesystem::path& folder);

  std::filesystem::path root_, inside_;
  std::map<std::string, Listing> listings_;
};

// Collects the good rows as samples and the bad ones as problems.
class SampleList {
 public:
  using Find = std::function<FoundImage(const std::string& image)>;
  // For messages: `table` the label file, `score` what its column of scores is called, `where` where images
  // are looked for ("in FOLDER").
  SampleList(std::string table, std::string score, std::string where, Find find,
             const DatasetOptions& options);
  // A sample, or a bad row: no finite number, outside of options.scale, negative std, no such file, a file
  // of another SHA-256 than given, an image that was there before. Rows count from 1.
  void add(int64_t row, const LabelRow& text);
  void bad(int64_t row, const std::string& image, const std::string& reason, bool missing_file = false);
  // The set, its range as declared or observed. Throws Error for bad rows, unless options.problems takes
  // them, and where there are no rows.
  Dataset finish();

 private:
  Sample sample(int64_t row, const LabelRow& text);
  double number(const std::string& what, const std::string& text) const;

  const std::string table_, score_, where_;
  const Find find_;
  const DatasetOptions& options_;
  std::vector<Sample> samples_;
  std::vector<RowProblem> problems_;
  std::map<std::string, int64_t> row_of_;
  int64_t rows_ = 0;
};

std::string lower(std::string text);  // A-Z only
// "refimgs/Kettle.bmp" -> "kettle".
std::string lower_stem(const std::string& path);

}  // namespace qfm
