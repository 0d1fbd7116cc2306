#include "train/image/exif.h"

#include <algorithm>

namespace qfm {
namespace {

// Numbers of a TIFF block in its own byte order; 0 outside of the block.
struct Tiff {
  std::span<const uint8_t> bytes;
  bool big_endian;

  uint32_t number(size_t at, size_t size) const {
    uint32_t value = 0;
    if (at > bytes.size() || size > bytes.size() - at) return 0;
    for (size_t i = 0; i < size; ++i) value = value << 8 | bytes[big_endian ? at + i : at + size - 1 - i];
    return value;
  }
};

constexpr uint32_t orientation_tag = 0x0112, short_type = 3, long_type = 4;

}  // namespace

int exif_orientation(std::span<const uint8_t> bytes) {
  constexpr uint8_t prefix[] = {'E', 'x', 'i', 'f', 0, 0};
  if (std::ranges::equal(bytes.first(std::min(bytes.size(), sizeof(prefix))), prefix)) bytes = bytes.subspan(sizeof(prefix));
  if (bytes.size() < 8 || bytes[0] != bytes[1] || (bytes[0] != 'I' && bytes[0] != 'M')) return 1;
  const Tiff tiff{bytes, bytes[0] == 'M'};
  if (tiff.number(2, 2) != 42) return 1;
  const size_t directory = tiff.number(4, 4);
  const uint32_t entries = tiff.number(directory, 2);
  for (uint32_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + size_t{12} * i;
    const uint32_t type = tiff.number(entry + 2, 2);
    if (tiff.number(entry, 2) != orientation_tag || (type != short_type && type != long_type)) continue;
    const uint32_t value = tiff.number(entry + 8, type == long_type ? 4 : 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image upright(Image stored, int orientation) {
  if (orientation <= 1 || orientation > 8) return stored;
  const ptrdiff_t w = stored.width, h = stored.height;
  // Where the upright image's first pixel is stored, and how far to go for one step right and one step down.
  const ptrdiff_t top_left = 0, top_right = w - 1, bottom_left = (h - 1) * w, bottom_right = w * h - 1;
  struct Walk {
    ptrdiff_t start, right, down;
  };
  const Walk walks[] = {{top_left, 1, w}, {top_right, -1, w},   {bottom_right, -1, -w}, {bottom_left, 1, -w},
                        {top_left, w, 1}, {bottom_left, -w, 1}, {bottom_right, -w, -1}, {top_right, w, -1}};
  const Walk walk = walks[orientation - 1];
  const bool swapped = orientation >= 5;
  Image out(swapped ? stored.height : stored.width, swapped ? stored.width : stored.height);
  for (int y = 0; y < out.height; ++y) {
    const uint8_t* from = stored.rgb.data() + 3 * (walk.start + walk.down * y);
    uint8_t* to = out.row(y);
    for (int x = 0; x < out.width; ++x, to += 3, from += 3 * walk.right) {
      to[0] = from[0];
      to[1] = from[1];
      to[2] = from[2];
    }
  }
  return out;
}

}  // namespace qfm
