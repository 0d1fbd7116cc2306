// What one update is given: windows of photos, their labels, and what objectives drew for it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/tensor.h"
#include "train/image/transform.h"

namespace qfm {

// Windows are cut on the host: a photo is many times as large, and each gives one. Where a photo is seen in several
// views (two crops of it, or a reference and its distortion) the rows are those of the first view, then those of the
// second: row i and row i + B / views belong together.
struct Batch {
  Tensor pixels;  // (B, crop, crop, 3) U8 on the CPU: the windows, RGB, as they are in the photos
  std::vector<int32_t> mirrored;  // (B) 1: left and right are to be exchanged
  Normalisation norm;             // to be applied to the pixels
  // (B) F32 on the CPU; (B / views) where the head scores views together, or where none are learnt
  Tensor labels;
  std::vector<int64_t> photos;    // (B) which photo each row was cut from
  std::vector<uint32_t> samples;  // (B) which (photo, crop) pair of the epoch it is: names its random streams
  int64_t labelled = 0;           // rows in front that are labelled; the rest has pseudo-labels, or none
  int64_t views = 1;

  // What the network takes is cut_crops (transform.h) of these; `pixels` lie at `where`.
  std::vector<CropSource> sources(const uint8_t* where) const;
};

// Tensors by name, made on the host before the update from its batch and from streams named (seed, purpose, epoch,
// sample). On the CPU as they are made, on CUDA copied with the images.
class HostInputs {
 public:
  void add(std::string name, Tensor tensor) { named_.emplace_back(std::move(name), std::move(tensor)); }
  // Throws Error where there is none.
  const Tensor& at(std::string_view name) const {
    for (const auto& [key, tensor] : named_)
      if (key == name) return tensor;
    QFM_FAIL("step: no input '", name, "'");
  }
  std::vector<Tensor*> tensors() {
    std::vector<Tensor*> all;
    for (auto& named : named_) all.push_back(&named.second);
    return all;
  }

 private:
  std::vector<std::pair<std::string, Tensor>> named_;
};

}  // namespace qfm
