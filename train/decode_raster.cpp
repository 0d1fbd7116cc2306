// BMP, GIF, TGA (by stb, after the checks that it lacks) and PNM (by us).
#include <algorithm>
#include <cstdlib>

#include "train/decoders.h"

namespace qfm::decoders {
namespace {

// stb takes colours beyond the end of a short palette from its stack: refused here.
void check_bmp_palette(const Source& source, size_t pixels_at, size_t header_end, bool core, int64_t width,
                       int64_t height, uint32_t bits) {
  if (bits != 1 && bits != 4 && bits != 8) source.corrupt("bad depth");
  const size_t colours = pixels_at < header_end ? 0 : (pixels_at - header_end) / (core ? 3 : 4);
  if (colours == 0 || colours > 256) source.corrupt("bad palette");
  if (colours >= size_t{1} << bits) return;
  const size_t stride = (static_cast<size_t>(width) * bits + 31) / 32 * 4;
  for (int64_t y = 0; y < height; ++y) {
    const auto row =
        source.part(pixels_at + static_cast<size_t>(y) * stride, (static_cast<size_t>(width) * bits + 7) / 8);
    for (size_t x = 0; x < static_cast<size_t>(width); ++x) {
      const size_t bit = x * bits;
      const uint32_t index = (row[bit / 8] >> (8 - bits - bit % 8)) & ((1u << bits) - 1);
      if (index >= colours) source.corrupt("colour index outside of the palette");
    }
  }
}

}  // namespace

Decoded decode_bmp(const Source& source) {
  const size_t pixels_at = source.le32(10), info_size = source.le32(14);
  const bool core = info_size == 12;
  const int64_t width = core ? source.le16(18) : static_cast<int32_t>(source.le32(18));
  const int64_t height = core ? source.le16(20) : std::abs(int64_t{static_cast<int32_t>(source.le32(22))});
  const uint32_t bits = source.le16(core ? 24 : 28);
  const uint32_t compression = core ? 0 : source.le32(30);
  source.check_size(width, height, 8);
  if (compression == 1 || compression == 2) source.unsupported("run-length-coded");
  const size_t header_end = 14 + info_size + (info_size == 40 && compression == 3 ? 12 : 0);
  if (pixels_at < header_end || pixels_at > source.bytes.size()) source.corrupt("bad position of the pixels");
  if (bits < 16) check_bmp_palette(source, pixels_at, header_end, core, width, height, bits);
  return {stb_image(source, static_cast<int>(width), static_cast<int>(height), bits == 16 || bits == 32)};
}

Decoded decode_gif(const Source& source) {
  const uint32_t width = source.le16(6), height = source.le16(8);
  source.check_size(width, height, 4096);
  check_gif(source);
  // Without a background colour, what the first frame leaves free stays transparent, as in browsers (stb
  // would paint it with red and blue exchanged).
  std::vector<uint8_t> bytes(source.bytes.begin(), source.bytes.end());
  if (bytes.size() > 11) bytes[11] = 0;
  return {stb_image({bytes, source.name, source.format, source.max_pixels}, static_cast<int>(width),
                    static_cast<int>(height), true)};
}

namespace {

struct TgaHeader {
  uint32_t indexed, type, palette_start, palette_length, palette_bits, width, height, bits, flags;
};
constexpr size_t tga_header_size = 18;
enum TgaFlags { right_to_left = 0x10, interleaved = 0xC0 };

TgaHeader read_tga_header(std::span<const uint8_t> b) {
  const auto le16 = [&](size_t at) { return b[at] | uint32_t{b[at + 1]} << 8; };
  return {b[1], b[2], le16(3), le16(5), b[7], le16(12), le16(14), b[16], b[17]};
}

}  // namespace

bool looks_like_tga(std::span<const uint8_t> bytes) {
  if (bytes.size() < tga_header_size) return false;
  const TgaHeader h = read_tga_header(bytes);
  const uint32_t plain = h.type & ~8u;  // bit 3: run-length coded
  if (h.type > 11 || (h.flags & interleaved)) return false;
  const auto one_of = [](uint32_t v, std::initializer_list<uint32_t> list) {
    return std::find(list.begin(), list.end(), v) != list.end();
  };
  if (h.indexed == 1)
    return plain == 1 && one_of(h.bits, {8, 16}) && one_of(h.palette_bits, {15, 16, 24, 32});
  if (h.indexed != 0) return false;
  return plain == 2 ? one_of(h.bits, {15, 16, 24, 32}) : plain == 3 && one_of(h.bits, {8, 16});
}

Decoded decode_tga(const Source& source) {
  const TgaHeader h = read_tga_header(source.part(0, tga_header_size));
  source.check_size(h.width, h.height, 128);
  if (h.flags & right_to_left) source.unsupported("right-to-left");
  if (h.indexed && h.palette_start != 0) source.unsupported("partly indexed");
  const uint32_t colour_bits = h.indexed ? h.palette_bits : h.bits;
  const bool alpha = colour_bits == 32 || ((h.type & ~8u) == 3 && h.bits == 16);
  return {stb_image(source, static_cast<int>(h.width), static_cast<int>(h.height), alpha)};
}

namespace {

// A number of a PNM header, with the white space and comments before it.
uint32_t pnm_number(const Source& source, size_t& at) {
  const auto space = [](uint32_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  while (space(source.u8(at)) || source.u8(at) == '#') {
    if (source.u8(at) == '#')
      while (source.u8(at) != '\n') ++at;
    ++at;
  }
  uint32_t value = 0;
  const size_t start = at;
  for (; source.u8(at) >= '0' && source.u8(at) <= '9'; ++at) {
    if (value > 99'999'999) source.corrupt("number too large");
    value = value * 10 + (source.u8(at) - '0');
  }
  if (at == start) source.corrupt("header is not made of numbers");
  return value;
}

}  // namespace

// Not by stb: it takes the low byte of 16 bits and ignores a maximum other than 255.
Decoded decode_pnm(const Source& source) {
  size_t at = 2;
  const uint32_t width = pnm_number(source, at), height = pnm_number(source, at),
                 most = pnm_number(source, at);
  source.check_size(width, height, 1);
  if (most < 1 || most > 65535) source.corrupt("maximum value is not in 1..65535");
  const size_t channels = source.bytes[1] == '6' ? 3 : 1, sample = most > 255 ? 2 : 1;
  const uint8_t* from = source.part(at + 1, channels * sample * width * height).data();
  Image image(static_cast<int>(width), static_cast<int>(height));
  const auto next = [&]() -> uint8_t {
    const uint32_t value = sample == 2 ? uint32_t{from[0]} << 8 | from[1] : from[0];
    from += sample;
    if (value > most) source.corrupt("value above the maximum");
    if (most == 255 || most == 65535) return static_cast<uint8_t>(sample == 2 ? value >> 8 : value);
    return static_cast<uint8_t>((value * 255 + most / 2) / most);
  };
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    image.rgb[i] = next();
    for (size_t c = 1; c < 3; ++c) image.rgb[i + c] = channels == 3 ? next() : image.rgb[i];
  }
  return {std::move(image)};
}

}  // namespace qfm::decoders
