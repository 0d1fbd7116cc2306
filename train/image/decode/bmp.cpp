// BMP, whole: headers of OS/2 1.x (12 bytes), OS/2 2.x (16 to 64) and Windows (40 to 124), palettes, run
// lengths and colour masks. Not by stb: it reads palettes from memory that it never filled, and takes unused
// bytes for alpha.
#include <algorithm>
#include <array>
#include <bit>

#include "train/image/decode/decoders.h"

namespace qfm::decoders {
namespace {

struct BmpHeader {
  enum Compression { none, rle8, rle4, masks, jpeg, png, masks_and_alpha };
  enum { at = 14, core = 12, masks_at = 54 };  // where, and the size of OS/2 1.x
  size_t size, pixels_at, palette_at;
  int64_t width, height;
  bool top_down;
  uint32_t bits, compression, colours_used;

  bool masked() const { return compression == masks || compression == masks_and_alpha; }
  bool run_lengths() const { return compression == rle8 || compression == rle4; }
  size_t stride() const { return (static_cast<size_t>(width) * bits + 31) / 32 * 4; }
};

bool is_one_of(uint32_t value, std::initializer_list<uint32_t> list) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// Throws for what is stored in other ways, and for depths that do not go with the way.
void check_bmp_coding(const Source& source, const BmpHeader& h) {
  const bool os2 = h.size <= 64 && !is_one_of(static_cast<uint32_t>(h.size), {40, 52, 56});
  if (os2 && h.compression == 3) source.unsupported("Huffman-coded");
  if (os2 && h.compression == 4) source.unsupported("24-bit run-length-coded");
  if (h.compression == h.jpeg) source.unsupported("JPEG-coded");
  if (h.compression == h.png) source.unsupported("PNG-coded");
  if (h.compression > (os2 ? 4 : h.masks_and_alpha))
    source.corrupt(concat("unknown compression ", h.compression));
  if (h.bits == 64) source.unsupported("64-bit");
  if (!is_one_of(h.bits, {1, 2, 4, 8, 16, 24, 32})) source.corrupt(concat("depth of ", h.bits, " bits"));
  if (h.run_lengths() && h.bits != (h.compression == h.rle8 ? 8 : 4))
    source.corrupt(concat("run lengths at a depth of ", h.bits, " bits"));
  if (h.masked() && h.bits < 16) source.corrupt(concat("colour masks at a depth of ", h.bits, " bits"));
}

BmpHeader read_bmp_header(const Source& source) {
  const size_t size = source.le32(BmpHeader::at);
  if (size != BmpHeader::core && (size < 16 || size > 64) && size != 108 && size != 124)
    source.corrupt(concat("header of ", size, " bytes"));
  source.part(BmpHeader::at, size);
  // Each header is the beginning of the longer ones; what it leaves out is 0.
  const auto field = [&](size_t at) { return at + 4 <= BmpHeader::at + size ? source.le32(at) : 0; };
  BmpHeader h{};
  h.size = size;
  h.pixels_at = source.le32(10);
  if (size == BmpHeader::core) {
    h.width = source.le16(18);
    h.height = source.le16(20);
    h.bits = source.le16(24);
  } else {
    const int64_t height = static_cast<int32_t>(field(22));
    h.width = static_cast<int32_t>(field(18));
    h.height = height < 0 ? -height : height;
    h.top_down = height < 0;
    h.bits = source.le16(28);
    h.compression = field(30);
    h.colours_used = field(46);
  }
  check_bmp_coding(source, h);
  // Masks stand at the same place in a header that has them and behind one that has not.
  const size_t masks_end =
      h.masked() ? size_t{BmpHeader::masks_at} + (h.compression == h.masks_and_alpha ? 16 : 12) : 0;
  h.palette_at = std::max(BmpHeader::at + size, masks_end);
  if (h.pixels_at < h.palette_at) source.corrupt("pixels are said to begin within the header");
  return h;
}

// Throws unless the file can hold the pixels. Run lengths may skip any number of them, so for those the bound
// is that of GIF, beyond which there is no photo.
void check_bmp_space(const Source& source, const BmpHeader& h) {
  source.check_size(h.width, h.height, h.run_lengths() ? 4096 : 8);
  source.part(h.pixels_at, h.run_lengths() ? 0 : h.stride() * static_cast<size_t>(h.height));
}

using Rgb = std::array<uint8_t, 3>;

std::vector<Rgb> read_palette(const Source& source, const BmpHeader& h) {
  const size_t entry = h.size == BmpHeader::core ? 3 : 4, most = size_t{1} << h.bits;
  const size_t named = h.colours_used > 0 ? std::min<size_t>(h.colours_used, most) : most;
  std::vector<Rgb> palette(std::min(named, (h.pixels_at - h.palette_at) / entry));
  if (palette.empty()) source.corrupt("no palette before the pixels");
  auto bytes = source.part(h.palette_at, palette.size() * entry);
  for (Rgb& colour : palette) {
    colour = {bytes[2], bytes[1], bytes[0]};
    bytes = bytes.subspan(entry);
  }
  return palette;
}

// An image under way: rows by their number in the file, colours by their index.
struct Canvas {
  const Source& source;
  const BmpHeader& header;
  Image image;

  Canvas(const Source& s, const BmpHeader& h)
      : source(s), header(h), image(static_cast<int>(h.width), static_cast<int>(h.height)) {}
  uint8_t* row(int64_t stored) {
    return image.row(static_cast<int>(header.top_down ? stored : header.height - 1 - stored));
  }
  std::span<const uint8_t> stored_row(int64_t y) const {
    return source.part(header.pixels_at + static_cast<size_t>(y) * header.stride(), header.stride());
  }
};

const Rgb& look_up(const Source& source, const std::vector<Rgb>& palette, size_t index) {
  if (index >= palette.size()) source.corrupt("colour index outside of the palette");
  return palette[index];
}

void read_indices(Canvas& canvas, const std::vector<Rgb>& palette) {
  const size_t bits = canvas.header.bits, most = (size_t{1} << bits) - 1;
  for (int64_t y = 0; y < canvas.header.height; ++y) {
    const auto from = canvas.stored_row(y);
    uint8_t* to = canvas.row(y);
    for (size_t x = 0, bit = 0; x < static_cast<size_t>(canvas.header.width); ++x, bit += bits, to += 3)
      std::ranges::copy(look_up(canvas.source, palette, from[bit / 8] >> (8 - bits - bit % 8) & most), to);
  }
}

// The pixels from (x, y) on: of one byte again and again, or of one byte (or half) each.
void put_run(Canvas& canvas, const std::vector<Rgb>& palette, int64_t x, int64_t y, size_t count,
             std::span<const uint8_t> bytes, bool repeated) {
  if (static_cast<int64_t>(count) > canvas.header.width - x)
    canvas.source.corrupt("run beyond the end of a row");
  uint8_t* to = canvas.row(y) + 3 * x;
  const bool nibbles = canvas.header.compression == BmpHeader::rle4;
  for (size_t i = 0; i < count; ++i, to += 3) {
    const uint32_t byte = bytes[repeated ? 0 : nibbles ? i / 2 : i];
    const uint32_t index = !nibbles ? byte : i % 2 == 0 ? byte >> 4 : byte & 15;
    std::ranges::copy(look_up(canvas.source, palette, index), to);
  }
}

// Pixels that the stream skips, or that its end leaves over, have the first colour of the palette: the format
// leaves them open, and this is what other readers do.
void read_runs(Canvas& canvas, const std::vector<Rgb>& palette) {
  enum Escape { end_of_row, end_of_picture, skip };
  for (size_t i = 0; i < canvas.image.rgb.size(); i += 3) std::ranges::copy(palette[0], &canvas.image.rgb[i]);
  const Source& source = canvas.source;
  const int64_t width = canvas.header.width, height = canvas.header.height;
  size_t at = canvas.header.pixels_at;
  // Many files have no end mark after the last pixel.
  for (int64_t x = 0, y = 0; y < height && !(y == height - 1 && x == width);) {
    const uint32_t count = source.u8(at), value = source.u8(at + 1);
    at += 2;
    if (count > 0) {
      put_run(canvas, palette, x, y, count, source.part(at - 1, 1), true);
      x += count;
    } else if (value == end_of_row) {
      x = 0;
      ++y;
    } else if (value == end_of_picture) {
      return;
    } else if (value == skip) {
      x += source.u8(at);
      y += source.u8(at + 1);
      at += 2;
      if (x > width || y > height) source.corrupt("skip to outside of the picture");
    } else {
      const size_t bytes = canvas.header.compression == BmpHeader::rle4 ? (value + 1) / 2 : value;
      put_run(canvas, palette, x, y, value, source.part(at, bytes), false);
      x += value;
      at += (bytes + 1) / 2 * 2;
    }
  }
}

// The bits of a pixel that hold one colour, spread over 0..255. Rounded down, as Pillow does.
class Channel {
 public:
  Channel() = default;
  Channel(const Source& source, uint32_t mask, uint32_t bits) : mask_(mask) {
    if (mask == 0) return;
    shift_ = std::countr_zero(mask);
    most_ = mask >> shift_;
    if ((most_ & (most_ + 1)) != 0) source.corrupt("colour mask with gaps");
    if (bits < 32 && mask >> bits != 0) source.corrupt("colour mask outside of the pixel");
  }
  uint8_t of(uint32_t pixel) const {
    const uint64_t value = (pixel & mask_) >> shift_;
    return static_cast<uint8_t>(most_ == 255 ? value : value * 255 / most_);
  }
  bool used() const { return mask_ != 0; }

 private:
  uint32_t mask_ = 0, most_ = 1;
  int shift_ = 0;
};

struct Channels {
  std::array<Channel, 3> colours;
  Channel alpha;
};

// Without masks no alpha: the fourth byte of 32 bits is unused.
Channels read_channels(const Source& source, const BmpHeader& h) {
  std::array<uint32_t, 4> mask = {0xFF0000, 0xFF00, 0xFF, 0};
  if (h.bits == 16) mask = {0x7C00, 0x3E0, 0x1F, 0};
  if (h.masked()) {
    const bool alpha = h.size >= 56 || h.compression == h.masks_and_alpha;
    for (size_t i = 0; i < (alpha ? 4 : 3); ++i) mask[i] = source.le32(BmpHeader::masks_at + 4 * i);
    if ((mask[0] | mask[1] | mask[2]) == 0) source.corrupt("colour masks without bits");
  }
  const auto channel = [&](size_t i) { return Channel(source, mask[i], h.bits); };
  return {{channel(0), channel(1), channel(2)}, channel(3)};
}

void read_colours(Canvas& canvas, const Channels& channels) {
  const size_t bytes = canvas.header.bits / 8;
  for (int64_t y = 0; y < canvas.header.height; ++y) {
    const uint8_t* from = canvas.stored_row(y).data();
    uint8_t* to = canvas.row(y);
    for (int64_t x = 0; x < canvas.header.width; ++x, from += bytes, to += 3) {
      uint32_t pixel = 0;
      for (size_t i = 0; i < bytes; ++i) pixel |= uint32_t{from[i]} << (8 * i);
      for (size_t c = 0; c < 3; ++c) to[c] = channels.colours[c].of(pixel);
      if (!channels.alpha.used()) continue;
      for (size_t c = 0; c < 3; ++c) to[c] = over_white(to[c], channels.alpha.of(pixel));
    }
  }
}

}  // namespace

Decoded decode_bmp(const Source& source) {
  const BmpHeader header = read_bmp_header(source);
  check_bmp_space(source, header);
  if (header.bits > 8) {
    const Channels channels = read_channels(source, header);
    Canvas canvas(source, header);
    read_colours(canvas, channels);
    return {std::move(canvas.image)};
  }
  const std::vector<Rgb> palette = read_palette(source, header);
  Canvas canvas(source, header);
  header.run_lengths() ? read_runs(canvas, palette) : read_indices(canvas, palette);
  return {std::move(canvas.image)};
}

}  // namespace qfm::decoders
