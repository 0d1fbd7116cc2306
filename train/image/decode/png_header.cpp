// A walk over the chunks of a PNG file (ISO/IEC 15948), up to its end.
#include <algorithm>
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
    const auto one_of = [](int value, std::initializer_list<int> list) {
      return std::ranges::find(list, value) != list.end();
    };
    if (!one_of(header.colour, {0, 2, 3, 4, 6})) source.corrupt("bad colour type");
    if (!(header.colour == 0   ? one_of(header.depth, {1, 2, 4, 8, 16})
          : header.colour == 3 ? one_of(header.depth, {1, 2, 4, 8})
                               : one_of(header.depth, {8, 16})))
      source.corrupt("bad depth");
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

}  // namespace

std::vector<Rgba> png_palette(const Source& source, const PngHeader& header) {
  const size_t colours = header.palette.size() / 3;
  if (colours == 0 || colours > 256 || header.palette.size() % 3 != 0) source.corrupt("bad palette");
  if (header.transparency.size() > colours) source.corrupt("more transparencies than colours");
  std::vector<Rgba> palette(colours);
  for (size_t i = 0; i < colours; ++i) {
    const auto rgb = header.palette.subspan(3 * i, 3);
    palette[i] = {rgb[0], rgb[1], rgb[2], i < header.transparency.size() ? header.transparency[i] : uint8_t{255}};
  }
  return palette;
}

PngHeader read_png_header(const Source& source) {
  PngHeader header;
  for (size_t at = 8;;) {
    const size_t length = source.be32(at);
    const auto named = source.part(at + 4, length + 4);  // type and content, which the sum covers
    const std::string_view type(reinterpret_cast<const char*>(named.data()), 4);
    read_chunk(source, type, named.subspan(4), header);
    if (type == "IEND") break;
    at += 12 + length;
  }
  if (!header.data) source.corrupt("no picture data");
  return header;
}

}  // namespace qfm::decoders
