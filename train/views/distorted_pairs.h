// Pairs of a reference and its distortion, labelled with the level, for full-reference heads (models/heads/siamese.h).
#pragma once
#include <utility>

#include "train/image/distort.h"
#include "train/views/view_source.h"

namespace qfm {

// A window of crop x crop pixels, and the same window distorted; the label is the level, 1 .. 5.
inline ViewPair distorted_pair(const Image& photo, int crop, Distortion kind, int level, Rng& rng) {
  ViewPair pair;
  pair.first = window_of(photo, crop, rng);
  pair.second = distort(pair.first, kind, level, rng.next());
  pair.label = static_cast<float>(level);
  return pair;
}

// Kind and level drawn evenly; both views mirrored, or none.
inline MakeViews distorted_pairs(int crop) {
  return [crop](const Image& photo, Rng rng) {
    constexpr Distortion kinds[] = {Distortion::Blur, Distortion::Noise, Distortion::Jpeg};
    const Distortion kind = kinds[rng.below(3)];
    const int level = 1 + static_cast<int>(rng.below(distortion_levels));
    ViewPair pair = distorted_pair(photo, crop, kind, level, rng);
    pair.mirror_first = pair.mirror_second = rng.uniform() < 0.5f;
    return pair;
  };
}

}  // namespace qfm
