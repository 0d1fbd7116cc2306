// PNG by libpng. It reports by longjmp: between setjmp and the calls there are only plain values.
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <utility>
#include <vector>

#include "train/image/decode/decoders.h"

namespace qfm::decoders {
namespace {

struct PngErrors {
  std::jmp_buf jump;
  char message[128] = "";
};

[[noreturn]] void on_png_error(png_structp png, png_const_charp why) {
  auto* errors = static_cast<PngErrors*>(png_get_error_ptr(png));
  std::snprintf(errors->message, sizeof(errors->message), "%s", why);
  std::longjmp(errors->jump, 1);
}
void on_png_warning(png_structp, png_const_charp) {}

// The walk over the chunks has seen that all of them are there.
void read_png_bytes(png_structp png, png_bytep to, size_t count) {
  auto& left = *static_cast<std::span<const uint8_t>*>(png_get_io_ptr(png));
  if (count > left.size()) png_error(png, "ends too early");
  std::copy_n(left.data(), count, to);
  left = left.subspan(count);
}

// Rows of `stride` bytes: the index of each pixel for a palette, else 8 bits a channel.
void read_png_rows(png_structp png, png_infop info, const PngHeader& header, uint8_t* rows, size_t stride) {
  png_set_user_limits(png, INT32_MAX, INT32_MAX);  // the size has been checked
  png_read_info(png, info);
  png_set_strip_16(png);
  if (header.colour == PngHeader::palette_colour) {
    png_set_packing(png);
  } else {
    png_set_expand_gray_1_2_4_to_8(png);
    if (!header.transparency.empty()) png_set_tRNS_to_alpha(png);
  }
  const int passes = png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != stride) png_error(png, "transparency that does not belong there");
  for (int pass = 0; pass < passes; ++pass)
    for (int y = 0; y < header.height; ++y) png_read_row(png, rows + stride * static_cast<size_t>(y), nullptr);
  png_read_end(png, nullptr);
}

// False: errors.message has the reason. No object here has a destructor that longjmp could skip.
bool decode_png_into(std::span<const uint8_t>& input, const PngHeader& header, uint8_t* rows, size_t stride,
                     std::vector<uint8_t>& icc, PngErrors& errors) {
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &errors, on_png_error, on_png_warning);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  const bool made = info && !setjmp(errors.jump);
  if (made) {
    png_set_read_fn(png, &input, read_png_bytes);
    read_png_rows(png, info, header, rows, stride);
    png_charp name = nullptr;
    png_bytep profile = nullptr;
    int compression = 0;
    png_uint_32 size = 0;
    if (png_get_iCCP(png, info, &name, &compression, &profile, &size)) icc.assign(profile, profile + size);
  }
  png_destroy_read_struct(&png, &info, nullptr);
  return made;
}

Layout layout_of(const PngHeader& header) {
  const bool alpha = (header.colour & PngHeader::alpha_bit) || !header.transparency.empty();
  if (header.colour & PngHeader::colour_bit) return alpha ? Layout::RgbAlpha : Layout::Rgb;
  return alpha ? Layout::GrayAlpha : Layout::Gray;
}

}  // namespace

Decoded decode_png(const Source& source) {
  const PngHeader header = read_png_header(source);
  const bool indexed = header.colour == PngHeader::palette_colour;
  const std::vector<Rgba> palette = indexed ? png_palette(source, header) : std::vector<Rgba>();
  Decoded out(header.width, header.height, indexed ? Layout::Gray : layout_of(header));
  PngErrors errors;
  std::span<const uint8_t> input = source.bytes;
  std::vector<uint8_t> icc;
  if (!decode_png_into(input, header, out.pixels.data(), out.stride(), icc, errors)) source.corrupt(errors.message);
  if (indexed) out = paint(source, out.width, out.height, out.pixels, palette);
  out.orientation = header.orientation.value_or(1);
  out.icc = std::move(icc);
  return out;
}

}  // namespace qfm::decoders
