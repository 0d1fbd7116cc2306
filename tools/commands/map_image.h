// A map of numbers over a photo, as a picture.
#pragma once
#include <string>

#include "train/image/image.h"
#include "train/predict/explain.h"

namespace qfm {

// The photo in gray under the colours of the map, which is brought to its size, from dark blue (low) to yellow (high):
// told apart also by those who see no red and green, and in print. Low and high, the legend's ends, stand at the lower left
// with the bar between them, where the photo has room for it.
Image map_over(const Image& photo, const QualityMap& map, double low, double high);

}  // namespace qfm
