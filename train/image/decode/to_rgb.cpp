// From the channels or the palette of a file to RGB.
#include <algorithm>

#include "train/image/decode/decoders.h"

namespace qfm::decoders {
namespace {

// Three channels of four, in place; `colour` is given a pixel and one of 0, 1 and 2.
template <class Colour>
void shrink(std::vector<uint8_t>& pixels, Colour colour) {
  uint8_t* to = pixels.data();
  for (const uint8_t *from = to, *end = to + pixels.size(); from < end; from += 4, to += 3) {
    const uint8_t pixel[] = {from[0], from[1], from[2], from[3]};
    for (int c = 0; c < 3; ++c) to[c] = colour(pixel, c);
  }
  pixels.resize(pixels.size() / 4 * 3);
}

std::vector<uint8_t> repeated(const std::vector<uint8_t>& pixels, bool alpha) {
  const size_t channels = alpha ? 2 : 1;
  std::vector<uint8_t> rgb;
  rgb.reserve(pixels.size() / channels * 3);
  for (size_t i = 0; i < pixels.size(); i += channels)
    rgb.insert(rgb.end(), 3, alpha ? over_white(pixels[i], pixels[i + 1]) : pixels[i]);
  return rgb;
}

}  // namespace

void unmultiply(std::vector<uint8_t>& rgba) {
  for (size_t i = 0; i < rgba.size(); i += 4)
    for (size_t c = 0; c < 3 && rgba[i + 3] > 0; ++c)
      rgba[i + c] = static_cast<uint8_t>(std::min(255, 255 * rgba[i + c] / rgba[i + 3]));
}

Decoded paint(const Source& source, int width, int height, std::span<const uint8_t> indices,
              std::span<const Rgba> palette) {
  const bool alpha = std::ranges::any_of(palette, [](const Rgba& colour) { return colour[3] < 255; });
  Decoded out(width, height, alpha ? Layout::RgbAlpha : Layout::Rgb);
  uint8_t* to = out.pixels.data();
  for (const uint8_t index : indices) {
    if (index >= palette.size()) source.corrupt("colour index outside of the palette");
    to = std::copy_n(palette[index].data(), channels_of(out.layout), to);
  }
  return out;
}

Image to_rgb(Decoded decoded) {
  auto& pixels = decoded.pixels;
  if (decoded.layout == Layout::Gray || decoded.layout == Layout::GrayAlpha)
    pixels = repeated(pixels, decoded.layout == Layout::GrayAlpha);
  else if (decoded.layout == Layout::RgbAlpha)
    shrink(pixels, [](const uint8_t* p, int c) { return over_white(p[c], p[3]); });
  else if (decoded.layout == Layout::Cmyk)
    shrink(pixels,
           [](const uint8_t* p, int c) { return static_cast<uint8_t>(p[3] - ((255 - p[c]) * p[3] + 127) / 255); });
  Image image;
  image.width = decoded.width, image.height = decoded.height;
  image.rgb = std::move(pixels);
  return image;
}

}  // namespace qfm::decoders
