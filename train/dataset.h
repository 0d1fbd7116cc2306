// Scored photos: native layouts of known sets (NAME:FOLDER) and plain manifests (a CSV file).
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
  std::string path;           // of the image file, which was there when the set was read
  std::string name;           // as in the label table
  double score = 0;           // as in the label table: finite
  std::optional<double> std;  // of the opinions about this photo
  std::string reference;      // photos of equal reference show one scene; empty = unknown
  std::string split;          // empty = not given
};

struct Dataset {
  std::string name;  // as the user gave it
  std::vector<Sample> samples;
  Range range;                  // of the labels
  bool range_observed = false;  // nobody declared it: it is the least and the largest label of these samples
  bool higher_is_better = true;

  // Label to 0-100 and back, linearly over `range`; the direction stays, nothing is clipped.
  // Throw Error where range has no width (observed on labels that are all equal).
  double scaled(double score) const;
  double unscaled(double value) const;
};

struct DatasetOptions {
  std::string root = {};  // images of a manifest are relative to it; empty: to the manifest's folder
  std::string fold = {};  // COLUMN=VALUE: only the rows with exactly that text; empty: all rows
  std::optional<Range> scale = {};  // the declared label range
  bool lower_is_better = false;
};

// `data` is NAME:FOLDER (one of native_layouts) or the path of a manifest: a header with one of image, path
// and one of score, mos, dmos, optionally std, reference, split (letter case ignored), and any other columns.
// A manifest says nothing of direction: higher is better, whatever the column is called, unless the options
// say otherwise. An image NAME is root/NAME; without a root FOLDER/NAME beside the manifest, or where there
// is none FOLDER/images/NAME. Policy: one bad row refuses the table. Error "PATH: row 7 (a.png): score 'abc'
// is not a number (1 bad row of 300)".
Dataset load_dataset(const std::string& data, const DatasetOptions& options = {});

// A loader of a set in the layout in which its authors publish it.
struct NativeLayout {
  std::string_view name;
  Dataset (*load)(const std::string& folder, const DatasetOptions& options);  // null: not built yet
};
const std::vector<NativeLayout>& native_layouts();
// Throws Error when `data` is NAME:FOLDER with a NAME that is unknown or not built yet (a usage error).
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
