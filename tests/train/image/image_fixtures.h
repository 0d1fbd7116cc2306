// Small photo files made by hand, for clones without the golden ones.
#pragma once
#include <algorithm>
#include <array>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "train/image/decode.h"
#include "train/image/encode.h"

namespace qfm::test {

inline std::string le(uint32_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(uint64_t{value} >> std::min(8 * i, 32));
  return out;
}
inline std::string be32(uint32_t v) {
  const std::string s = le(v, 4);
  return {s.rbegin(), s.rend()};
}

inline Image drawn(int width, int height, uint64_t seed = 1) {
  Image image(width, height);
  Rng rng(seed, "drawn");
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        image.row(y)[3 * x + c] =
            static_cast<uint8_t>(40 + (x * (c + 3) + y * (5 - c)) % 160 + rng.below(40));
  return image;
}

inline std::string text(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }
inline Image decode_text(const std::string& bytes, const DecodeOptions& options = {}) {
  return decode_image({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "photo", options);
}

inline uint32_t crc32(const std::string& bytes) {
  uint32_t c = ~0u;
  for (char byte : bytes) {
    c ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) ? 0xEDB88320u ^ (c >> 1) : c >> 1;
  }
  return ~c;
}
inline std::string png_chunk(const std::string& type, const std::string& content) {
  return be32(static_cast<uint32_t>(content.size())) + type + content + be32(crc32(type + content));
}
// `rows`: the unfiltered lines, each of the same length; `before`: chunks between header and data.
inline std::string png(uint32_t width, uint32_t height, int depth, int colour, const std::string& rows,
                       const std::string& before = "") {
  std::string raw;
  for (size_t y = 0; y < height; ++y)
    raw += '\0' + rows.substr(y * (rows.size() / height), rows.size() / height);
  uint32_t a = 1, b = 0;
  for (char byte : raw) b = (b + (a = (a + static_cast<unsigned char>(byte)) % 65521)) % 65521;
  const auto n = static_cast<uint32_t>(raw.size());
  const std::string zlib = std::string("\x78\x01\x01") + le(n, 2) + le(~n, 2) + raw + be32(b << 16 | a);
  const std::string flags = {static_cast<char>(depth), static_cast<char>(colour), 0, 0, 0};
  return std::string("\x89PNG\r\n\x1a\n") + png_chunk("IHDR", be32(width) + be32(height) + flags) + before +
         png_chunk("IDAT", zlib) + png_chunk("IEND", "");
}

// The parts of a BMP file, written as given, so that a file can also lie.
struct Bmp {
  int width, height;  // height below 0: rows top to bottom
  std::string rows;   // as stored
  int bits = 24;
  std::string palette = "";
  uint32_t header = 40, compression = 0, colours_used = 0;
  std::vector<uint32_t> masks = {};  // red, green, blue, alpha
  std::string gap = "";              // before the pixels
  int64_t pixels_at = -1;            // -1: where they are
};
inline std::string write_bmp(const Bmp& b) {
  const auto number = [](int64_t value, int bytes) { return le(static_cast<uint32_t>(value), bytes); };
  std::string info = number(b.header, 4);
  if (b.header == 12) {
    info += number(b.width, 2) + number(b.height, 2) + le(1, 2) + number(b.bits, 2);
  } else {
    info += number(b.width, 4) + number(b.height, 4) + le(1, 2) + number(b.bits, 2);
    info += le(b.compression, 4) + le(0, 12) + le(b.colours_used, 4) + le(0, 4);
    for (uint32_t mask : b.masks) info += le(mask, 4);
    // Masks follow the shorter headers. In others, fields that nothing should read have bits set.
    info.resize(b.masks.empty() ? std::max(b.header, 4u) : std::max<size_t>(b.header, info.size()), '\x5a');
  }
  const std::string before = info + b.palette + b.gap;
  const int64_t at = b.pixels_at < 0 ? static_cast<int64_t>(14 + before.size()) : b.pixels_at;
  return "BM" + number(static_cast<int64_t>(14 + before.size() + b.rows.size()), 4) + le(0, 4) +
         number(at, 4) + before + b.rows;
}
inline std::string bmp(int width, int height, const std::string& rows, int bits = 24,
                       const std::string& palette = "") {
  return write_bmp({.width = width, .height = height, .rows = rows, .bits = bits, .palette = palette});
}

// Rows of pixel values of 1 to 32 bits, as BMP stores them; `values` are in the order of the file.
inline std::string bmp_rows(const std::vector<uint32_t>& values, int width, int bits) {
  std::string rows;
  for (size_t y = 0; y < values.size() / static_cast<size_t>(width); ++y) {
    std::string row;
    uint32_t byte = 0;
    for (int x = 0; x < width; ++x) {
      const uint32_t value = values[y * static_cast<size_t>(width) + static_cast<size_t>(x)];
      if (bits >= 8) row += le(value, bits / 8);
      else byte = byte << bits | value;
      if (bits < 8 && (x + 1) * bits % 8 == 0) row += static_cast<char>(byte);
    }
    const int left = width * bits % 8;
    if (bits < 8 && left > 0) row += static_cast<char>(byte << (8 - left));
    row.resize((row.size() + 3) / 4 * 4, '\x77');
    rows += row;
  }
  return rows;
}
// Entries of three or four bytes; the fourth is not used and has bits set.
inline std::string bmp_palette(const std::vector<std::array<uint8_t, 3>>& colours, int entry) {
  std::string palette;
  for (const auto& [r, g, b] : colours)
    palette += std::string{static_cast<char>(b), static_cast<char>(g), static_cast<char>(r), '\x5a'}.substr(
        0, static_cast<size_t>(entry));
  return palette;
}

inline std::string tga(uint32_t width, uint32_t height, const std::string& pixels, int bits = 24,
                       int type = 2) {
  return std::string{0, 0, static_cast<char>(type)} + le(0, 9) + le(width, 2) + le(height, 2) +
         static_cast<char>(bits) + '\x20' + pixels;  // 0x20: rows top to bottom
}

// Two colours, "abc" and "ABC" as stored; type 9: run lengths.
inline std::string tga_indexed(uint32_t width, uint32_t height, const std::string& indices, int type = 1) {
  return std::string{0, 1, static_cast<char>(type)} + le(0, 2) + le(2, 2) + '\x18' + le(0, 4) + le(width, 2) +
         le(height, 2) + "\x08\x20" + "abcABC" + indices;
}

// Four colours: black, red, green, blue; `transparent` in 0..3 or -1. LZW in codes of three bits, the table
// cleared before it makes them longer.
inline std::string gif(uint32_t width, uint32_t height, const std::vector<int>& pixels, int transparent = -1,
                       uint32_t frame_width = 0, int background = 0) {
  std::string data;
  uint32_t bits = 0, count = 0;
  const auto put = [&](uint32_t code) {
    bits |= code << count;
    for (count += 3; count >= 8; count -= 8, bits >>= 8) data += static_cast<char>(bits);
  };
  for (size_t i = 0; i < pixels.size(); ++i) {
    if (i % 2 == 0) put(4);
    put(static_cast<uint32_t>(pixels[i]));
  }
  put(5);
  if (count > 0) data += static_cast<char>(bits);
  std::string out = "GIF89a" + le(width, 2) + le(height, 2) + '\x81' + static_cast<char>(background) + '\0';
  out += std::string("\0\0\0\xff\0\0\0\xff\0\0\0\xff", 12);
  if (transparent >= 0) out += std::string("\x21\xf9\x04\x01\0\0", 6) + static_cast<char>(transparent) + '\0';
  out +=
      std::string(",") + le(0, 4) + le(frame_width ? frame_width : width, 2) + le(height, 2) + '\0' + '\x02';
  return out + static_cast<char>(data.size()) + data + '\0' + ';';
}

// A JPEG file with an EXIF block that holds the orientation alone.
inline std::string with_orientation(const std::string& jpeg, uint32_t orientation) {
  const std::string tiff = std::string("II") + le(42, 2) + le(8, 4) + le(1, 2) + le(0x0112, 2) + le(3, 2) +
                           le(1, 4) + le(orientation, 4) + le(0, 4);
  const std::string content = std::string("Exif\0\0", 6) + tiff;
  const auto length = static_cast<uint32_t>(content.size() + 2);
  return jpeg.substr(0, 2) + "\xff\xe1" + static_cast<char>(length >> 8) + static_cast<char>(length) +
         content + jpeg.substr(2);
}

}  // namespace qfm::test
