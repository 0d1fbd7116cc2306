// What a photo looks like at a glance: finds the same picture under another name, re-encoded or resized.
#pragma once
#include <array>
#include <cstdint>

#include "train/image/image.h"

namespace qfm {

// A difference hash (Krawetz's dHash) of a 9 x 8 thumbnail of luma, and the thumbnail itself, because a hash
// alone confuses skies. All zero for a photo without contrast, which looks like nothing.
struct PerceptualHash {
  uint64_t bits = 0;                   // is a cell brighter than its left neighbour?
  std::array<int8_t, 72> thumbnail{};  // without its mean, stretched to -127..127
  bool plain = true;                   // no contrast
};
PerceptualHash perceptual_hash(const Image& image);

// The hashes differ in at most 10 of 64 bits and the thumbnails correlate by at least 0.98; never for plain photos.
bool near_duplicate(const PerceptualHash& a, const PerceptualHash& b);
// At most 22 bits and at least 0.8: the same scene a moment later, where the time says that it may be.
bool look_alike(const PerceptualHash& a, const PerceptualHash& b);

}  // namespace qfm
