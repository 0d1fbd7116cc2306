// Splits of a set in parts, as plain text to read, keep and diff.
//
//   # qfm split: koniq10k, 10073 photos, 8058 train, 2015 test; seed 0, test 0.2, no references
//   train 1024x768/10004473376.jpg
//   test 1024x768/826373.jpg
//
// A line a photo: the part, a blank, the name as `qfm data list` gives it. Lines that start with # and empty
// lines are left out. The SHA-256 of the whole file names a split in every result that uses it.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "train/data/dataset.h"

namespace qfm {

struct Split {
  std::string path, sha256;
  std::vector<std::pair<std::string, std::string>> lines;  // part, name
};

// The text of a split into train and test by split_fraction: the same bytes for the same set, fraction and
// seed on every machine. Throws Error for what split_fraction refuses and for a name with a line end.
std::string split_text(const Dataset& set, double fraction, uint64_t seed);

// Throws Error "PATH: line 7: reason": a part other than train, val, test, a name given twice, no photo.
Split read_split(const std::string& path);

// Gives every sample its part as Sample::split. The split must be of this very set: a photo without a line,
// or a line without a photo (unless that row is among `problems`), throws Error.
void assign_split(Dataset& set, const Split& split, const std::vector<RowProblem>* problems = nullptr);

// The samples of one part, in order; range, direction and hash stay. Throws Error where there are none.
Dataset part_of(const Dataset& set, const std::string& part);

}  // namespace qfm
