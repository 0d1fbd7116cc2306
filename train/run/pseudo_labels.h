// Pseudo-labels: teacher predictions for unlabelled photos (models/METHOD.md 6.1, our reconstruction).
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/memory/device.h"
#include "train/data/dataset.h"

namespace qfm {

struct PseudoLabel {
  std::string path;
  double quality = 0;  // mean over the crops, 0-100, higher is better
  double spread = 0;   // standard deviation over all queries of all crops, same unit
};

struct PseudoLabelOptions {
  std::string teacher;           // a checkpoint of ours
  std::string folder;            // photos, searched with its folders
  std::string cache;             // a .jsonl file: what it has is not computed again
  double spread_quantile = 0.8;  // photos whose spread is above this quantile of all are dropped; 1: none
  int workers = 1;
  Device device = cpu_device;  // where the teacher runs
  std::function<void(int64_t done, int64_t photos)> progress = {};
};

struct PseudoLabels {
  std::vector<PseudoLabel> kept;  // in the order of their paths
  int64_t photos = 0, unreadable = 0, dropped = 0;
  double spread_limit = 0;  // the quantile
  std::string digest;       // SHA-256 of the kept photos' contents and labels: equal for equal training data
};

// Scores all photos of the folder with the teacher (evenly spaced crops). The cache holds one line a photo,
// keyed by the SHA-256 of photo and teacher, appended when it is known: a killed call goes on where it was,
// and a line cut short is dropped; one that comes while another works on the same cache waits. Photos of
// equal content count once. Throws Error: a teacher or folder that cannot be read, no readable photo.
PseudoLabels pseudo_labels(const PseudoLabelOptions& options);

// A quality from 0 to 100 as a label of `set`: in its direction, and in its unit unless `scaled`.
double label_of(double quality, const Dataset& set, bool scaled);

}  // namespace qfm
