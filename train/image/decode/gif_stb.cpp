// GIF by stb, after what it does not check: that the first frame holds all of its pixels, each with a colour. A code
// table that stays full (deferred clear) it refuses.
#include <array>

#include "train/image/decode/decoders.h"

namespace qfm::decoders {
namespace {

// The codes of an LZW stream, least significant bit first, from blocks of a length byte and as many bytes.
class CodeReader {
 public:
  CodeReader(const Source& source, size_t at) : source_(source), at_(at) {}
  // False once an empty block has ended the stream.
  bool next(uint32_t size, uint32_t& code) {
    for (; count_ < size; count_ += 8) {
      if (left_ == 0 && (left_ = source_.u8(at_++)) == 0) return false;
      bits_ |= source_.u8(at_++) << count_;
      --left_;
    }
    code = bits_ & ((1u << size) - 1);
    bits_ >>= size;
    count_ -= size;
    return true;
  }

 private:
  const Source& source_;
  size_t at_;
  uint32_t left_ = 0, bits_ = 0, count_ = 0;
};

// Follows the stream only as far as the pixels that are wanted: how long each code's string is, not what it
// says. Strings are made of the plain codes before them, so those alone are held against the palette.
void check_pixels(const Source& source, size_t at, uint64_t wanted, uint32_t colours) {
  constexpr uint32_t table_size = 4096, none = table_size;
  const uint32_t plain_bits = source.u8(at);
  if (plain_bits < 1 || plain_bits > 11) source.corrupt("bad code size");
  const uint32_t clear = 1u << plain_bits, end = clear + 1;
  std::array<uint32_t, table_size> length;  // of the strings of the codes below `known`
  length.fill(1);
  uint32_t size = plain_bits + 1, known = clear + 2, last = none, code = 0;
  CodeReader codes(source, at + 1);
  uint64_t found = 0;
  while (found < wanted && codes.next(size, code) && code != end) {
    if (code == clear) {
      size = plain_bits + 1;
      known = clear + 2;
      last = none;
      continue;
    }
    if (code < clear && code >= colours) source.corrupt("colour index outside of the palette");
    if (last != none && known < table_size) length[known++] = length[last] + 1;
    if (code >= known) source.corrupt("unknown code");
    found += length[code];
    if (known == 1u << size && known < table_size) ++size;
    last = code;
  }
  if (found < wanted) source.corrupt(concat("data for ", found, " of ", wanted, " pixels"));
}

size_t after_blocks(const Source& source, size_t at) {
  while (const uint32_t length = source.u8(at)) at += 1 + length;
  return at + 1;
}

// Throws unless the first frame lies on the screen and its data gives every pixel a colour of the palette.
void check_gif(const Source& source) {
  const uint32_t screen_flags = source.u8(10);
  size_t at = 13 + (screen_flags & 0x80 ? size_t{6} << (screen_flags & 7) : 0);
  for (; source.u8(at) == 0x21; at = after_blocks(source, at + 2))  // extensions
    if (source.u8(at + 1) == 0xF9 && source.u8(at + 2) != 4) source.corrupt("bad graphic control");
  if (source.u8(at) == 0x3B) source.corrupt("no picture in it");
  if (source.u8(at) != 0x2C) source.corrupt("unknown block");
  const uint32_t left = source.le16(at + 1), top = source.le16(at + 3);
  const uint32_t width = source.le16(at + 5), height = source.le16(at + 7), flags = source.u8(at + 9);
  if (width == 0 || height == 0) source.corrupt("first frame without pixels");
  if (left + width > source.le16(6) || top + height > source.le16(8))
    source.corrupt("first frame does not fit in");
  const bool own_palette = flags & 0x80;
  if (!own_palette && !(screen_flags & 0x80)) source.corrupt("no palette");
  const uint32_t colours = 2u << ((own_palette ? flags : screen_flags) & 7);
  check_pixels(source, at + 10 + (own_palette ? size_t{3} * colours : 0), uint64_t{width} * height, colours);
}

}  // namespace

Decoded decode_gif(const Source& source) {
  const uint32_t width = source.le16(6), height = source.le16(8);
  source.check_size(width, height, 4096);
  check_gif(source);
  // Without a background colour, what the first frame leaves free stays transparent, as in browsers (stb
  // would paint it with red and blue exchanged).
  std::vector<uint8_t> bytes(source.bytes.begin(), source.bytes.end());
  if (bytes.size() > 11) bytes[11] = 0;
  return stb_image({bytes, source.name, source.format, source.max_pixels}, static_cast<int>(width),
                   static_cast<int>(height), true);
}

}  // namespace qfm::decoders
