// PNG by stb, which neither checks sums nor indices.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "train/image/decode/decoders.h"

namespace qfm::decoders {
namespace {

constexpr std::array<uint32_t, 256> crc_table = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) ? 0xEDB88320u ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  return table;
}();

uint32_t crc32(std::span<const uint8_t> bytes) {
  uint32_t c = 0xFFFFFFFFu;
  for (uint8_t byte : bytes) c = crc_table[(c ^ byte) & 255] ^ (c >> 8);
  return ~c;
}

void check_sums(const Source& source) {
  for (size_t at = 8; at < source.bytes.size();) {
    const size_t length = source.be32(at);
    const auto named = source.part(at + 4, length + 4);  // type and content
    if (source.be32(at + 8 + length) != crc32(named)) source.corrupt("wrong checksum");
    if (std::memcmp(named.data(), "IEND", 4) == 0) return;
    at += 12 + length;
  }
}

// stb would take what is beyond the end of a short palette from its stack, so it is shown a gray image instead, and the
// indices that come back are looked up by us.
Decoded decode_palette(const Source& source, const PngHeader& header) {
  const std::vector<Rgba> palette = png_palette(source, header);
  std::vector<uint8_t> gray(source.bytes.begin(), source.bytes.end());
  gray[8 + 8 + 9] = 0;  // colour type, in IHDR
  if (!header.transparency.empty())
    gray[static_cast<size_t>(header.transparency.data() - source.bytes.data()) - 4] =
        'x';  // xRNS: unknown, and not critical
  std::vector<uint8_t> indices(static_cast<size_t>(header.width) * static_cast<size_t>(header.height));
  const int scale = 255 / ((1 << header.depth) - 1);  // stb spreads 1, 2 and 4 bits over 0..255
  stb_decode({gray, source.name, source.format, source.max_pixels}, header.width, header.height, 1,
             [&](const uint8_t* pixels) {
               for (uint8_t& index : indices) index = static_cast<uint8_t>(*pixels++ / scale);
             });
  return paint(source, header.width, header.height, indices, palette);
}

}  // namespace

Decoded decode_png(const Source& source) {
  const PngHeader header = read_png_header(source);
  check_sums(source);
  const bool alpha = (header.colour & PngHeader::alpha_bit) || !header.transparency.empty();
  Decoded out = header.colour == PngHeader::palette_colour ? decode_palette(source, header)
                                                           : stb_image(source, header.width, header.height, alpha);
  out.orientation = header.orientation.value_or(1);
  return out;
}

}  // namespace qfm::decoders
