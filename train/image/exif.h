// EXIF orientation: how the camera was held.
#pragma once
#include <span>

#include "train/image/image.h"

namespace qfm {

// The orientation tag (0x0112) of the first directory in an EXIF block: TIFF, with "Exif\0\0" before it or not. 1 (as
// stored) where there is none, or the block or the value makes no sense.
int exif_orientation(std::span<const uint8_t> block);

// The upright image of one stored with this orientation, 1..8. Sides swap for 5..8.
Image upright(Image stored, int orientation);

}  // namespace qfm
