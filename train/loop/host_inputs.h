// What one update takes from the host beside the images.
#pragma once
#include <vector>

#include "train/objectives/matching.h"

namespace qfm {

// Made before the update from its batch and from streams named (seed, purpose, epoch, sample); empty where a
// switch is off. On the CPU as they are made, on CUDA copied with the images.
struct HostInputs {
  Tensor labels;      // (B) F32
  Tensor contrast;    // (B, B), targets of score_contrast (layers/qfm_losses.h)
  MatchInputs match;  // of the matching memory

  // Those that are not empty.
  std::vector<Tensor*> tensors() {
    std::vector<Tensor*> all;
    for (Tensor* t : {&labels, &contrast, &match.reals, &match.numbers, &match.words})
      if (!t->empty()) all.push_back(t);
    return all;
  }
};

}  // namespace qfm
