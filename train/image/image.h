// A decoded photo.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace qfm {

// 8-bit RGB, interleaved, rows top to bottom without padding: rgb.size() == 3 * width * height.
struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;

  Image() = default;
  Image(int w, int h)
      : width(w), height(h), rgb(size_t{3} * static_cast<size_t>(w) * static_cast<size_t>(h)) {}
  uint8_t* row(int y) { return rgb.data() + size_t{3} * static_cast<size_t>(width) * static_cast<size_t>(y); }
  const uint8_t* row(int y) const { return const_cast<Image*>(this)->row(y); }
};

}  // namespace qfm
