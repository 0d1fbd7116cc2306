// PNG (ISO/IEC 15948): we walk the chunks and check their sums, stb inflates and unfilters.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "train/image/decode/decoders.h"
#include "train/image/exif.h"

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

struct PngHeader {
  int width = 0, height = 0, depth = 0, colour = 0;
  std::optional<int> orientation;  // of the first EXIF block
  std::span<const uint8_t> palette, transparency;  // content of PLTE and tRNS
  bool data = false;
};

enum Colour { palette_colour = 3, alpha_bit = 4 };

// ImageMagick keeps EXIF as text: "\nexif\n    SIZE\nHEX HEX..." under this keyword.
std::optional<int> orientation_of_raw_profile(std::string_view type, std::span<const uint8_t> content) {
  constexpr size_t most = size_t{1} << 18;  // EXIF has at most 64 KiB
  const std::string_view all(reinterpret_cast<const char*>(content.data()), content.size());
  const size_t end = all.find('\0');
  if (end == all.npos || (all.substr(0, end) != "Raw profile type exif" && all.substr(0, end) != "Raw profile type APP1"))
    return std::nullopt;
  std::string text;
  if (type == "tEXt") text = all.substr(end + 1);
  else if (content.size() > end + 2) text = stb_inflate(content.subspan(end + 2), most);
  std::istringstream words(text);
  std::string name, hex;
  size_t size = 0;
  words >> name >> size;
  for (std::string line; words >> line;) hex += line;
  std::vector<uint8_t> exif;
  for (size_t i = 0; i + 2 <= std::min(hex.size(), 2 * size); i += 2) {
    uint8_t byte = 0;
    if (std::from_chars(&hex[i], &hex[i] + 2, byte, 16).ptr != &hex[i] + 2) return std::nullopt;
    exif.push_back(byte);
  }
  return exif_orientation(exif);
}

void read_chunk(const Source& source, std::string_view type, std::span<const uint8_t> content,
                PngHeader& header) {
  if ((type == "IHDR") != (header.width == 0)) source.corrupt("IHDR is not the first chunk, and only that");
  if (type == "IHDR") {
    if (content.size() != 13) source.corrupt("header of a wrong length");
    const auto start = static_cast<size_t>(content.data() - source.bytes.data());
    header.depth = content[8];
    header.colour = content[9];
    // Deflate expands at most 1032 times, to 8 pixels a byte.
    source.check_size(source.be32(start), source.be32(start + 4), 1032 * 8);
    header.width = static_cast<int>(source.be32(start));
    header.height = static_cast<int>(source.be32(start + 4));
  } else if (type == "PLTE") {
    header.palette = content;
  } else if (type == "tRNS") {
    header.transparency = content;
  } else if (type == "eXIf") {
    if (!header.orientation) header.orientation = exif_orientation(content);
  } else if (type == "zTXt" || type == "tEXt") {
    if (!header.orientation) header.orientation = orientation_of_raw_profile(type, content);
  } else if (type == "IDAT") {
    header.data = true;
  } else if (type != "IEND" && !(type[0] & 0x20)) {
    source.corrupt("unknown critical chunk");
  }
}

PngHeader read_png_header(const Source& source) {
  PngHeader header;
  for (size_t at = 8;;) {
    const size_t length = source.be32(at);
    const auto named = source.part(at + 4, length + 4);  // type and content, which the sum covers
    const std::string_view type(reinterpret_cast<const char*>(named.data()), 4);
    if (source.be32(at + 8 + length) != crc32(named)) source.corrupt("wrong checksum");
    read_chunk(source, type, named.subspan(4), header);
    if (type == "IEND") break;
    at += 12 + length;
  }
  if (!header.data) source.corrupt("no picture data");
  return header;
}

// Colours of the palette over white. stb would take what is beyond the end of a short palette from its stack,
// so it is shown a gray image instead, and the indices that come back are looked up here.
Image decode_palette(const Source& source, const PngHeader& header) {
  const size_t colours = header.palette.size() / 3;
  if (colours == 0 || colours > 256 || header.palette.size() % 3 != 0) source.corrupt("bad palette");
  if (header.transparency.size() > colours) source.corrupt("more transparencies than colours");
  std::vector<uint8_t> table(header.palette.begin(), header.palette.end());
  for (size_t i = 0; i < header.transparency.size(); ++i)
    for (size_t c = 0; c < 3; ++c) table[3 * i + c] = over_white(table[3 * i + c], header.transparency[i]);

  std::vector<uint8_t> gray(source.bytes.begin(), source.bytes.end());
  gray[8 + 8 + 9] = 0;  // colour type, in IHDR
  if (!header.transparency.empty())
    gray[static_cast<size_t>(header.transparency.data() - source.bytes.data()) - 4] =
        'x';  // xRNS: unknown, and not critical
  Image image;
  const int scale = 255 / ((1 << header.depth) - 1);  // stb spreads 1, 2 and 4 bits over 0..255
  stb_decode({gray, source.name, source.format, source.max_pixels}, header.width, header.height, 1,
             [&](const uint8_t* pixels) {
               image = Image(header.width, header.height);
               for (size_t i = 0; i < image.rgb.size(); i += 3, ++pixels) {
                 const size_t index = static_cast<size_t>(*pixels / scale);
                 if (index >= colours) source.corrupt("colour index outside of the palette");
                 std::memcpy(&image.rgb[i], &table[3 * index], 3);
               }
             });
  return image;
}

}  // namespace

Decoded decode_png(const Source& source) {
  const PngHeader header = read_png_header(source);
  if (header.colour == palette_colour) {
    if (header.depth != 1 && header.depth != 2 && header.depth != 4 && header.depth != 8)
      source.corrupt("bad depth");
    return {decode_palette(source, header), header.orientation.value_or(1)};
  }
  const bool alpha = (header.colour & alpha_bit) || !header.transparency.empty();
  Decoded out = stb_image(source, header.width, header.height, alpha);
  out.orientation = header.orientation.value_or(1);
  return out;
}

}  // namespace qfm::decoders
