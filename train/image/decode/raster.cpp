// TGA (by stb, after the checks that it lacks) and PNM (by us).
#include <algorithm>

#include "train/image/decode/decoders.h"

namespace qfm::decoders {

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

namespace {

// Throws for a colour index outside of the palette: stb would take the first colour for it.
void check_tga_indices(const Source& source, const TgaHeader& h) {
  const size_t bytes = h.bits / 8, pixels = size_t{h.width} * h.height;
  size_t at = tga_header_size + source.u8(0) + h.palette_length * ((h.palette_bits + 7) / 8);
  const auto check = [&](size_t count) {
    for (; count > 0; --count, at += bytes)
      if ((bytes == 2 ? source.le16(at) : source.u8(at)) >= h.palette_length)
        source.corrupt("colour index outside of the palette");
  };
  if (!(h.type & 8)) return check(pixels);
  for (size_t done = 0; done < pixels;) {
    const uint32_t packet = source.u8(at++), count = (packet & 127) + 1;
    check(packet & 128 ? 1 : std::min<size_t>(count, pixels - done));
    done += count;
  }
}

}  // namespace

Decoded decode_tga(const Source& source) {
  const TgaHeader h = read_tga_header(source.part(0, tga_header_size));
  source.check_size(h.width, h.height, 128);
  if (h.flags & right_to_left) source.unsupported("right-to-left");
  if (h.indexed && h.palette_start != 0) source.unsupported("partly indexed");
  if (h.indexed) check_tga_indices(source, h);
  const uint32_t colour_bits = h.indexed ? h.palette_bits : h.bits;
  const bool alpha = colour_bits == 32 || ((h.type & ~8u) == 3 && h.bits == 16);
  return stb_image(source, static_cast<int>(h.width), static_cast<int>(h.height), alpha);
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
