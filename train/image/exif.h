// EXIF: how the camera was held, and when.
#pragma once
#include <cstdint>
#include <optional>
#include <span>

#include "train/image/image.h"

namespace qfm {

// The orientation tag (0x0112) of the first directory in an EXIF block: TIFF, with "Exif\0\0" before it or not. 1 (as
// stored) where there is none, or the block or the value makes no sense.
int exif_orientation(std::span<const uint8_t> block);

// When the photo was taken, in seconds by the camera's own clock (DateTimeOriginal; counted from 1970): of a TIFF or camera raw
// file, else of the first EXIF block that begins with "Exif\0\0" within the file's first 256 KiB. Absent where there is none, or it makes no sense.
std::optional<int64_t> capture_time(std::span<const uint8_t> file);

// The upright image of one stored with this orientation, 1..8. Sides swap for 5..8.
Image upright(Image stored, int orientation);

}  // namespace qfm
