// TIFF by libtiff: the first page, its strips or tiles as they are stored, so that 16 bits give their high byte.
#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "train/image/decode/decoders.h"

namespace qfm::decoders {
namespace {

// The file as libtiff reads it, and what it says about it.
struct TiffMemory {
  std::span<const uint8_t> bytes;
  uint64_t at = 0;
  bool ended = false;                    // more was asked for than there is
  std::string error = {}, warning = {};  // the first of each
};

tmsize_t read_tiff(thandle_t handle, void* to, tmsize_t wanted) {
  auto& file = *static_cast<TiffMemory*>(handle);
  const uint64_t size = file.bytes.size(), start = std::min(file.at, size);
  const auto count = std::min(static_cast<uint64_t>(wanted), size - start);
  if (count < static_cast<uint64_t>(wanted)) file.ended = true;
  std::copy_n(file.bytes.data() + start, count, static_cast<uint8_t*>(to));
  file.at = start + count;
  return static_cast<tmsize_t>(count);
}
tmsize_t write_tiff(thandle_t, void*, tmsize_t) { return 0; }
toff_t seek_tiff(thandle_t handle, toff_t offset, int from) {
  auto& file = *static_cast<TiffMemory*>(handle);
  return file.at = offset + (from == SEEK_CUR ? file.at : from == SEEK_END ? file.bytes.size() : 0);
}
int close_tiff(thandle_t) { return 0; }
toff_t size_of_tiff(thandle_t handle) { return static_cast<TiffMemory*>(handle)->bytes.size(); }

void keep_message(std::string& first, const char* module, const char* format, va_list values) {
  if (!first.empty()) return;
  char text[200];
  std::vsnprintf(text, sizeof(text), format, values);
  first = concat(module ? module : "libtiff", ": ", text);
  std::ranges::replace(first, '\n', ' ');
}
int on_tiff_error(TIFF*, void* file, const char* module, const char* format, va_list values) {
  keep_message(static_cast<TiffMemory*>(file)->error, module, format, values);
  return 1;
}
int on_tiff_warning(TIFF*, void* file, const char* module, const char* format, va_list values) {
  keep_message(static_cast<TiffMemory*>(file)->warning, module, format, values);
  return 1;
}

class TiffReader {
 public:
  explicit TiffReader(const Source& source) : source_(source), memory_{source.bytes} {
    const std::unique_ptr<TIFFOpenOptions, void (*)(TIFFOpenOptions*)> how(TIFFOpenOptionsAlloc(), TIFFOpenOptionsFree);
    TIFFOpenOptionsSetMaxSingleMemAlloc(how.get(), 8 * source.max_pixels + (1 << 24));  // 4 channels of 16 bits, codecs
    TIFFOpenOptionsSetErrorHandlerExtR(how.get(), on_tiff_error, &memory_);
    TIFFOpenOptionsSetWarningHandlerExtR(how.get(), on_tiff_warning, &memory_);
    // "m": through the functions, not by mapping.
    file_.reset(TIFFClientOpenExt("", "rm", &memory_, read_tiff, write_tiff, seek_tiff, close_tiff, size_of_tiff,
                                  nullptr, nullptr, how.get()));
    if (!file_ || memory_.ended) fail();  // also where a tag's value, such as the colour profile, is cut
  }
  TIFF* file() const { return file_.get(); }
  TiffMemory& memory() { return memory_; }
  template <class T>
  T field(uint32_t tag, T otherwise) const {
    T value{};
    return TIFFGetFieldDefaulted(file(), tag, &value) ? value : otherwise;
  }
  [[noreturn]] void fail() const {
    if (memory_.ended) source_.truncated();
    source_.corrupt(!memory_.error.empty()     ? memory_.error
                    : !memory_.warning.empty() ? memory_.warning
                                               : "cannot be decoded");
  }

 private:
  struct Close {
    void operator()(TIFF* file) const { TIFFClose(file); }
  };
  const Source& source_;
  TiffMemory memory_;
  std::unique_ptr<TIFF, Close> file_;
};

// How pixels are stored.
struct TiffHeader {
  uint32_t width, height;
  uint16_t bits, samples, photometric, compression, orientation;
  bool separate;  // one plane a channel
  bool tiled, alpha, multiplied;
  uint32_t block_width, block_height;  // of tiles, or of strips

  Layout layout() const {
    if (photometric == PHOTOMETRIC_SEPARATED) return Layout::Cmyk;
    if (photometric == PHOTOMETRIC_RGB) return alpha ? Layout::RgbAlpha : Layout::Rgb;
    return alpha ? Layout::GrayAlpha : Layout::Gray;  // a palette has one channel, too
  }
};

// The most pixels that a byte can give, where that is known.
int64_t pixels_per_byte(uint16_t compression) {
  if (compression == COMPRESSION_NONE) return 8;
  if (compression == COMPRESSION_JPEG) return 512;
  return compression == COMPRESSION_LZW || compression == COMPRESSION_ADOBE_DEFLATE ? 1 << 15 : Source::any_number;
}

TiffHeader read_tiff_header(const Source& source, const TiffReader& tiff) {
  TiffHeader h{};
  h.width = tiff.field<uint32_t>(TIFFTAG_IMAGEWIDTH, 0), h.height = tiff.field<uint32_t>(TIFFTAG_IMAGELENGTH, 0);
  h.bits = tiff.field<uint16_t>(TIFFTAG_BITSPERSAMPLE, 1), h.samples = tiff.field<uint16_t>(TIFFTAG_SAMPLESPERPIXEL, 1);
  h.compression = tiff.field<uint16_t>(TIFFTAG_COMPRESSION, COMPRESSION_NONE);
  source.check_size(h.width, h.height, pixels_per_byte(h.compression));
  if (!TIFFGetField(tiff.file(), TIFFTAG_PHOTOMETRIC, &h.photometric)) source.corrupt("no photometric interpretation");
  h.orientation = tiff.field<uint16_t>(TIFFTAG_ORIENTATION, 1);
  h.separate =
      h.samples > 1 && tiff.field<uint16_t>(TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == PLANARCONFIG_SEPARATE;
  uint16_t extras = 0;
  const uint16_t* kinds = nullptr;
  TIFFGetFieldDefaulted(tiff.file(), TIFFTAG_EXTRASAMPLES, &extras, &kinds);
  h.multiplied = extras > 0 && kinds[0] == EXTRASAMPLE_ASSOCALPHA;
  h.alpha = h.multiplied || (extras > 0 && kinds[0] == EXTRASAMPLE_UNASSALPHA);
  h.tiled = TIFFIsTiled(tiff.file());
  h.block_width = h.tiled ? tiff.field<uint32_t>(TIFFTAG_TILEWIDTH, 0) : h.width;
  h.block_height = h.tiled ? tiff.field<uint32_t>(TIFFTAG_TILELENGTH, 0)
                           : std::min(h.height, tiff.field<uint32_t>(TIFFTAG_ROWSPERSTRIP, h.height));
  if (h.block_width == 0 || h.block_height == 0 || int64_t{h.block_width} * h.block_height > source.max_pixels)
    source.corrupt("bad size of tiles or strips");
  return h;
}

void check_tiff_kind(const Source& source, const TiffReader& tiff, const TiffHeader& h) {
  const auto one_of = [](int value, std::initializer_list<int> list) {
    return std::ranges::find(list, value) != list.end();
  };
  const uint16_t format = tiff.field<uint16_t>(TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
  if (!TIFFIsCODECConfigured(h.compression)) source.unsupported(concat("by scheme ", h.compression, " compressed"));
  if (!one_of(h.photometric, {PHOTOMETRIC_MINISBLACK, PHOTOMETRIC_MINISWHITE, PHOTOMETRIC_RGB, PHOTOMETRIC_PALETTE,
                              PHOTOMETRIC_SEPARATED}))
    source.unsupported(concat("of photometric interpretation ", h.photometric));
  const bool one_channel = channels_of(h.layout()) <= 2;
  if (format != SAMPLEFORMAT_UINT || !(one_of(h.bits, {8, 16}) || (one_channel && one_of(h.bits, {1, 2, 4}))))
    source.unsupported(concat(h.bits, "-bit ", format == SAMPLEFORMAT_UINT ? "" : "signed or float"));
  if (h.multiplied && one_channel) source.unsupported("gray, by alpha multiplied");
  if (h.samples < channels_of(h.layout()) || h.samples > 8) source.corrupt(concat(h.samples, " samples a pixel"));
}

// Sample number `at` of a row, as 8 bits; of a palette its index.
uint8_t tiff_sample(const uint8_t* row, size_t at, const TiffHeader& h) {
  if (h.bits == 8) return row[at];
  if (h.bits == 16) {
    uint16_t value;  // in this machine's order
    std::memcpy(&value, row + 2 * at, 2);
    return static_cast<uint8_t>(value >> 8);
  }
  const size_t bit = at * h.bits;
  const int most = (1 << h.bits) - 1, value = row[bit / 8] >> (8 - h.bits - bit % 8) & most;
  return static_cast<uint8_t>(h.photometric == PHOTOMETRIC_PALETTE ? value : value * 255 / most);
}

// The block whose first pixel is (left, top); `plane`: the channel that it has, or -1 for all.
void put_block(const uint8_t* block, const TiffHeader& h, uint32_t left, uint32_t top, int plane, Decoded& out) {
  const size_t stored = plane < 0 ? h.samples : 1;
  const size_t row_bytes = (h.block_width * stored * h.bits + 7) / 8;
  const uint32_t rows = std::min(h.block_height, h.height - top), columns = std::min(h.block_width, h.width - left);
  const size_t channels = static_cast<size_t>(channels_of(out.layout)), wanted = plane < 0 ? channels : 1;
  for (uint32_t y = 0; y < rows; ++y) {
    const uint8_t* row = block + y * row_bytes;
    uint8_t* to = out.row(static_cast<int>(top + y)) + left * channels + (plane < 0 ? 0 : plane);
    for (uint32_t x = 0; x < columns; ++x, to += channels)
      for (size_t c = 0; c < wanted; ++c) to[c] = tiff_sample(row, x * stored + c, h);
  }
}

void read_blocks(TiffReader& tiff, const TiffHeader& h, Decoded& out) {
  const tmsize_t size = h.tiled ? TIFFTileSize(tiff.file()) : TIFFStripSize(tiff.file());
  const size_t row_bytes = (size_t{h.block_width} * (h.separate ? 1 : h.samples) * h.bits + 7) / 8;
  if (size <= 0 || static_cast<size_t>(size) < row_bytes * h.block_height) tiff.fail();
  const auto block = std::make_unique_for_overwrite<uint8_t[]>(static_cast<size_t>(size));
  tiff.memory().warning.clear();
  for (int plane = h.separate ? 0 : -1; plane < (h.separate ? channels_of(out.layout) : 0); ++plane)
    for (uint32_t top = 0; top < h.height; top += h.block_height)
      for (uint32_t left = 0; left < h.width; left += h.block_width) {
        const auto number = static_cast<uint16_t>(std::max(plane, 0));
        const tmsize_t wanted =
            h.tiled ? size : static_cast<tmsize_t>(row_bytes * std::min(h.block_height, h.height - top));
        const tmsize_t count =
            h.tiled
                ? TIFFReadEncodedTile(tiff.file(), TIFFComputeTile(tiff.file(), left, top, 0, number), block.get(),
                                      size)
                : TIFFReadEncodedStrip(tiff.file(), TIFFComputeStrip(tiff.file(), top, number), block.get(), wanted);
        // Codecs warn where they made up what was missing.
        if (count < wanted || !tiff.memory().warning.empty()) tiff.fail();
        put_block(block.get(), h, left, top, plane, out);
      }
}

std::vector<Rgba> tiff_palette(const TiffReader& tiff, const TiffHeader& h) {
  const uint16_t *red = nullptr, *green = nullptr, *blue = nullptr;
  if (!TIFFGetField(tiff.file(), TIFFTAG_COLORMAP, &red, &green, &blue)) tiff.fail();
  std::vector<Rgba> palette(size_t{1} << h.bits);
  const auto high = [](uint16_t value) { return static_cast<uint8_t>(value >> 8); };
  for (size_t i = 0; i < palette.size(); ++i) palette[i] = {high(red[i]), high(green[i]), high(blue[i]), 255};
  return palette;
}

}  // namespace

Decoded decode_tiff(const Source& source) {
  TiffReader tiff(source);
  // libtiff's codec makes RGB of JPEG's colours.
  if (tiff.field<uint16_t>(TIFFTAG_COMPRESSION, 0) == COMPRESSION_JPEG &&
      tiff.field<uint16_t>(TIFFTAG_PHOTOMETRIC, 0) == PHOTOMETRIC_YCBCR)
    TIFFSetField(tiff.file(), TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
  TiffHeader header = read_tiff_header(source, tiff);
  if (header.compression == COMPRESSION_JPEG && header.photometric == PHOTOMETRIC_YCBCR)
    header.photometric = PHOTOMETRIC_RGB;
  check_tiff_kind(source, tiff, header);
  Decoded out(static_cast<int>(header.width), static_cast<int>(header.height), header.layout());
  read_blocks(tiff, header, out);
  const bool inverted = header.photometric == PHOTOMETRIC_MINISWHITE || header.photometric == PHOTOMETRIC_SEPARATED;
  const size_t step = static_cast<size_t>(channels_of(out.layout));
  if (inverted)
    for (size_t i = 0; i < out.pixels.size(); ++i)
      if (out.layout != Layout::GrayAlpha || i % step == 0) out.pixels[i] ^= 255;
  if (header.photometric == PHOTOMETRIC_PALETTE)
    out = paint(source, out.width, out.height, out.pixels, tiff_palette(tiff, header));
  if (header.multiplied && out.layout == Layout::RgbAlpha) unmultiply(out.pixels);
  out.orientation = header.orientation;
  uint32_t icc_size = 0;
  const uint8_t* icc = nullptr;
  if (TIFFGetField(tiff.file(), TIFFTAG_ICCPROFILE, &icc_size, &icc)) out.icc.assign(icc, icc + icc_size);
  return out;
}

}  // namespace qfm::decoders
