// Inside of decode_image: one decoder a format, and what they share.
#pragma once
#include <array>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/error.h"
#include "train/image/image.h"

namespace qfm::decoders {

// A whole file in memory.
struct Source {
  std::span<const uint8_t> bytes;
  const std::string& name;
  const char* format;  // "JPEG", for messages
  int64_t max_pixels;

  [[noreturn]] void truncated() const { QFM_FAIL(name, ": truncated ", format, " at byte ", bytes.size()); }
  [[noreturn]] void corrupt(const std::string& why) const { QFM_FAIL(name, ": corrupt ", format, ": ", why); }
  [[noreturn]] void unsupported(const std::string& what) const {
    QFM_FAIL(name, ": ", what, " ", format, " files are not supported");
  }
  // Throws unless `count` bytes from `at` are there.
  std::span<const uint8_t> part(size_t at, size_t count) const {
    if (at > bytes.size() || count > bytes.size() - at) truncated();
    return bytes.subspan(at, count);
  }
  uint32_t u8(size_t at) const { return part(at, 1)[0]; }
  uint32_t be16(size_t at) const { return u8(at) << 8 | u8(at + 1); }
  uint32_t be32(size_t at) const { return be16(at) << 16 | be16(at + 2); }
  uint32_t le16(size_t at) const { return u8(at) | u8(at + 1) << 8; }
  uint32_t le32(size_t at) const { return le16(at) | le16(at + 2) << 16; }

  // Throws for an empty image, one of more than max_pixels, or one that this many bytes cannot hold, one
  // byte giving at most `pixels_per_byte`. To be called before any memory is taken for pixels.
  void check_size(int64_t width, int64_t height, int64_t pixels_per_byte = any_number) const;
  static constexpr int64_t any_number = std::numeric_limits<int64_t>::max();  // one colour everywhere takes no bytes
};

// The channels of a pixel, 8 bits each. Alpha is not multiplied into the colours; of CMYK 255 is no ink, as Adobe stores
// it.
enum class Layout { Gray, GrayAlpha, Rgb, RgbAlpha, Cmyk };
constexpr int channels_of(Layout layout) {
  return layout == Layout::Gray ? 1 : layout == Layout::GrayAlpha ? 2 : layout == Layout::Rgb ? 3 : 4;
}

// A photo as its file has it. Pixels are interleaved, rows top to bottom without padding.
struct Decoded {
  int width = 0, height = 0;
  Layout layout = Layout::Rgb;
  std::vector<uint8_t> pixels = {};
  int orientation = 1;            // EXIF, 1..8
  std::vector<uint8_t> icc = {};  // the colour profile; empty: none
  const char* preview_of = "";    // "NEF": the picture is what the camera put into that file beside the sensor's values

  Decoded(Image image, int turned = 1)
      : width(image.width), height(image.height), pixels(std::move(image.rgb)), orientation(turned) {}
  // All zero: black, and transparent.
  Decoded(int w, int h, Layout channels)
      : width(w), height(h), layout(channels), pixels(stride() * static_cast<size_t>(h)) {}
  size_t stride() const { return static_cast<size_t>(channels_of(layout)) * static_cast<size_t>(width); }
  uint8_t* row(int y) { return pixels.data() + stride() * static_cast<size_t>(y); }
};

// Colours and gray by the profile, alpha kept. As it is where the profile is sRGB, damaged or one of another layout.
void to_srgb(Decoded& photo);
// What becomes of the other layouts: decode.h.
Image to_rgb(Decoded decoded);
// Colours without the alpha that was multiplied into them, as Pillow rounds them.
void unmultiply(std::vector<uint8_t>& rgba);

Decoded decode_jpeg(const Source& source);
Decoded decode_png(const Source& source);
Decoded decode_bmp(const Source& source);
Decoded decode_gif(const Source& source);
Decoded decode_pnm(const Source& source);
Decoded decode_tga(const Source& source);
Decoded decode_webp(const Source& source);
Decoded decode_tiff(const Source& source);
Decoded decode_heif(const Source& source);  // HEIC and AVIF
Decoded decode_jxl(const Source& source);
Decoded decode_raw(const Source& source);  // of what is_camera_raw
bool is_camera_raw(std::span<const uint8_t> bytes);  // a TIFF file with a sensor's values, or marked as one
bool looks_like_tga(
    std::span<const uint8_t> bytes);  // TGA has no magic bytes: a header without contradictions

// What is read from a JPEG file without decoding. Throws for unsupported kinds (lossless, arithmetic, 12 bits), a wrong size,
// more scans than any encoder writes (each one costs a pass over all pixels), and for a file without an end marker unless
// its one scan has all components: then the decoder sees whether a pixel is missing.
struct JpegHeader {
  int width = 0, height = 0, components = 0;
  bool progressive = false;
  bool one_scan = false;  // it has all components: whatever stands behind it is not needed
  bool ended = false;     // the end marker is there
  std::optional<int> exif_orientation = {};  // of the first EXIF block, which counts
  int orientation() const { return exif_orientation.value_or(1); }
  std::vector<uint8_t> icc = {};  // the colour profile, if all of its parts are there
  int adobe_transform = -1;  // from the Adobe marker; -1: there is none
};
JpegHeader read_jpeg_header(const Source& source);

// What is read from a PNG file without decoding. Throws for a wrong size or kind, and where chunks are missing or not
// whole.
struct PngHeader {
  enum { palette_colour = 3, colour_bit = 2, alpha_bit = 4 };
  int width = 0, height = 0, depth = 0, colour = 0;
  std::optional<int> orientation = {};                  // of the first EXIF block
  std::span<const uint8_t> palette = {}, transparency = {};  // content of PLTE and tRNS
  bool data = false;
};
PngHeader read_png_header(const Source& source);

using Rgba = std::array<uint8_t, 4>;
std::vector<Rgba> png_palette(const Source& source, const PngHeader& header);
// The colours of one index a pixel, with alpha where the palette has some. Throws for an index outside of the palette.
Decoded paint(const Source& source, int width, int height, std::span<const uint8_t> indices,
              std::span<const Rgba> palette);

// Runs stb_image over the source and hands its pixels (rows top to bottom, `channels` bytes a pixel) to `use`. Throws
// where stb refuses, where it reads past the end, and where its size is not the one that was checked.
void stb_decode(const Source& source, int width, int height, int channels,
                const std::function<void(const uint8_t* pixels)>& use);
// zlib data of at most `most` bytes, either way; empty where it is damaged or longer.
std::string stb_inflate(std::span<const uint8_t> zlib, size_t most);
// For tests: what stb gets from now on, on this thread, is filled with this byte; -1: not filled.
void fill_stb_memory(int byte);
// The usual `use`: the pixels, three channels or four.
Decoded stb_image(const Source& source, int width, int height, bool alpha);

constexpr uint8_t over_white(int colour, int alpha) {
  return static_cast<uint8_t>((colour * alpha + 255 * (255 - alpha) + 127) / 255);
}

}  // namespace qfm::decoders
