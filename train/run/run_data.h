// The photos of a training run and their targets.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train/data/dataset.h"
#include "train/run/config.h"

namespace qfm {

struct RunData {
  Dataset train;       // with --split its train part
  Dataset validation;  // empty where nothing validates; the test part of --split only under --protocol paper
  Dataset calibration;  // empty without --calibrate
};
// Reads and splits what `config` names. Throws Error: a bad table, labels that are all equal, fewer than 100 photos to
// calibrate with, or one of them that is also in another part.
RunData load_run_data(const TrainConfig& config);

// SHA-256 of these photos' rows in the label tables: equal for equal runs.
std::string digest_of(const RunData& data);

std::vector<std::string> paths_of(const Dataset& set);

// The labels of `set` on 0-100 over the range of `train`, or as they are.
std::vector<double> targets_of(const Dataset& set, const Dataset& train, bool scaled);

// Decodes every photo once, so that no run dies of one after hours; report(done, photos) after each. Throws
// Error with the reason of the first bad one and the number of others.
void check_photos(const std::vector<std::string>& paths, const std::function<void(int64_t, int64_t)>& report);

}  // namespace qfm
