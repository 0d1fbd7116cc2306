// Which scored set a command is about: the options of eval and data.
#pragma once
#include <CLI/App.hpp>
#include <string>

#include "train/data/dataset.h"

namespace qfm {

struct DataOptions {
  std::string data, scale;
  DatasetOptions set;
};
// --fold, --root, --scale, --lower-is-better, --split; and the set itself: as --data, or where it stands.
enum class DataGiven { ByFlag, ByPlace };
void add_data_options(CLI::App& app, DataOptions& options, DataGiven given);
// What of it can be checked before anything is read, as options for load_dataset. Throws UsageError.
DatasetOptions checked(const DataOptions& options);

}  // namespace qfm
