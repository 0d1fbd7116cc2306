// Small photo files made by hand, for clones without the golden ones.
#pragma once
#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "train/decode.h"
#include "train/encode.h"

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

inline std::string bmp(int width, int height, const std::string& rows, int bits = 24,
                       const std::string& palette = "") {
  const auto offset = static_cast<uint32_t>(54 + palette.size());
  return std::string("BM") + le(offset + static_cast<uint32_t>(rows.size()), 4) + le(0, 4) + le(offset, 4) +
         le(40, 4) + le(static_cast<uint32_t>(width), 4) + le(static_cast<uint32_t>(height), 4) + le(1, 2) +
         le(static_cast<uint32_t>(bits), 2) + le(0, 24) + palette + rows;
}

inline std::string tga(uint32_t width, uint32_t height, const std::string& pixels, int bits = 24,
                       int type = 2) {
  return std::string{0, 0, static_cast<char>(type)} + le(0, 9) + le(width, 2) + le(height, 2) +
         static_cast<char>(bits) + '\x20' + pixels;  // 0x20: rows top to bottom
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
