// Validates a data set: every label and every photo.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train/data/dataset.h"

namespace qfm {

struct Finding {
  enum class Verdict { Fine, Note, Wrong };
  std::string about;  // rows, photos, references, files, labels, direction, sizes, duplicates, split
  Verdict verdict = Verdict::Fine;
  std::string text;                     // one line
  std::vector<std::string> items = {};  // each thing that is wrong
};

struct DatasetCheckOptions {
  int workers = 1;                                  // threads that decode
  std::function<void(int64_t done)> progress = {};  // after each photo
};

// Reads and decodes every photo once. `problems` are the rows of the table that load_dataset left out. Looks
// for: rows that cannot be used; other counts of photos and references than published; files that are missing
// or cannot be decoded; labels outside of the declared range, and of a published set not spanning it; levels
// of distortion (of sets that have them) that contradict the direction; sides below 224 (a note); files of
// equal content; and, where samples have a split, scenes on both sides of it: equal references, and photos
// that look alike (train/image/near_duplicate.h).
std::vector<Finding> check_dataset(const Dataset& set, const std::vector<RowProblem>& problems,
                                   const DatasetCheckOptions& options = {});

bool passed(const std::vector<Finding>& findings);  // nothing is wrong

}  // namespace qfm
