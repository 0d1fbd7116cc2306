// The manifest reader behind load_dataset (train/dataset.h has the format and the policy).
#pragma once
#include "train/dataset.h"

namespace qfm {

Dataset load_manifest(const std::string& path, const DatasetOptions& options);

}  // namespace qfm
