// Scored photos: sets of the field in their own layouts (NAME:FOLDER, biq2021:FOLDER:TABLE) and plain tables (a CSV file).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qfm {

struct Range {
  double low = 0, high = 0;
};

struct Sample {
  std::string path;  // the image file, which was there when the set was read
  // As in the label table; of a set in its own layout: relative to its folder, as on disk.
  std::string name;
  double score = 0;           // as in the label table: finite
  std::optional<double> std;  // of the opinions, as in the label table (KonIQ-10k: of 1..5)
  std::string reference;      // photos of equal reference show one scene; empty = unknown
  std::string split;          // empty = not given
  std::string subset = {};    // a part of the set with an origin or a way of scoring of its own; empty = not given
};

struct NativeLayout;

struct Dataset {
  std::string name;  // as the user gave it
  std::vector<Sample> samples;
  Range range;                  // what the labels lie in
  bool range_observed = false;  // not declared: the least and the largest label of these samples
  bool higher_is_better = true;
  // The published set that this is; null: photos of the user's own.
  const NativeLayout* published = nullptr;
  // What the set is known to hold as its authors publish it, which a check only notes: files with the content of another,
  // and photos on both sides of its own split that look alike.
  int64_t known_copies = 0;
  bool known_twins = false;
  std::string split_sha256;  // the split file that was applied; empty: none was

  // Label to 0-100 and back, linearly over `range`; the direction stays, nothing is clipped.
  // Throw Error where range has no width (observed on labels that are all equal).
  double scaled(double score) const;
  double unscaled(double value) const;
  // As the predictions are: scaled, and turned round where lower is better.
  double quality(double score) const;
};

// A row of a label table that cannot be used.
struct RowProblem {
  std::string table;   // its file
  int64_t row;         // from 1, the header not counted
  std::string image;   // as in the table; empty where it names none
  std::string reason;  // "score 'abc' is not a number"
  bool missing_file = false;
};

struct DatasetOptions {
  std::string root = {};  // images of a manifest are relative to it; empty: to the manifest's folder
  std::string image_column = {}, score_column = {};  // of a table with names of its own; empty: the usual ones
  std::string fold = {};  // COLUMN=VALUE: only the rows with exactly that text; empty: all rows
  std::optional<Range> scale = {};  // the declared label range
  bool lower_is_better = false;
  std::string split = {};  // a file of `qfm data split` (train/data/split.h) with each sample's part
  std::string part = {};   // a part of the split: only these samples; empty: all
  // Where bad rows are put, and left out, instead of refusing the table; null: they refuse it.
  std::vector<RowProblem>* problems = nullptr;
};

// `data` is NAME:FOLDER (one of native_layouts), biq2021:FOLDER:TABLE or the path of a table: a manifest or a meta_info
// table of pyiqa (train/data/manifest.h). Policy: one bad row refuses the table, Error "PATH: row 7 (a.png): score
// 'abc' is not a number (1 bad row of 300)"; so does a set of fewer than 3 photos. Where the layout of
// another set is found, the Error has what to type.
Dataset load_dataset(const std::string& data, const DatasetOptions& options = {});

// A set of the field in the layout in which its authors publish it.
struct NativeLayout {
  std::string_view name;                 // NAME of NAME:FOLDER
  std::string_view pyiqa;                // X of pyiqa's meta_info_XDataset.csv
  std::vector<std::string_view> tables;  // label files, relative to FOLDER: any identifies this layout
  int64_t photos, references;            // as published; 0 references: it has none
  Range range;                           // what the published scores lie in
  bool higher_is_better;
  int64_t known_copies;  // Dataset::known_copies
  // Name, range, direction and split of the result are load_dataset's business.
  Dataset (*read)(const std::string& folder, const DatasetOptions& options);
};
const std::vector<NativeLayout>& native_layouts();
// Throws Error when `data` is NAME:FOLDER with an unknown NAME (a usage error).
void check_dataset_name(const std::string& data);

// Part for training and part for validation: round(fraction * groups) groups of equal reference (a photo
// without one is a group), at least one and not all, drawn by the seed. Both keep the order of the set, its
// range and direction. Throws Error for a fraction outside (0, 1) or fewer than two groups.
std::pair<Dataset, Dataset> split_fraction(const Dataset& dataset, double fraction, uint64_t seed);

// "0:100" -> {0, 100}; throws Error unless both are numbers and the first is less.
Range parse_range(std::string_view text);
// "fold=train" -> {"fold", "train"}; throws Error where there is no '=' or nothing before it.
std::pair<std::string, std::string> parse_fold(std::string_view text);

}  // namespace qfm
