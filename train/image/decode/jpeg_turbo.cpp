// JPEG by libjpeg-turbo: slow integer DCT and fancy upsampling, its defaults and the reference of other
// decoders. libjpeg reports by longjmp: between setjmp and the calls there are only plain values, and what it
// allocates is its own.
// clang-format off
#include <cstddef>
#include <cstdio>  // jpeglib.h needs these two, and jerror.h needs jpeglib.h
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include <algorithm>
#include <csetjmp>
#include <cstdlib>
#include <memory>
#include <utility>

#include "train/image/decode/decoders.h"
#include "train/image/encode.h"

namespace qfm {
namespace {

struct Errors : jpeg_error_mgr {
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = "";
};

[[noreturn]] void on_error(j_common_ptr codec) {
  auto* errors = static_cast<Errors*>(codec->err);
  errors->format_message(codec, errors->message);
  std::longjmp(errors->jump, 1);
}

// Most warnings are of odd metadata, or of bytes that stand where none are wanted: no pixel is lost by them. These mean that
// pixels were invented.
bool invents_pixels(j_common_ptr codec) {
  switch (codec->err->msg_code) {
    case JWRN_HIT_MARKER:  // the scan's data ends too early
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
      return true;
    case JWRN_JPEG_EOF: {  // no end marker: of the one scan that there is, a missing bit is told by JWRN_HIT_MARKER
      const auto* decoder = reinterpret_cast<const jpeg_decompress_struct*>(codec);
      return decoder->progressive_mode || decoder->comps_in_scan != decoder->num_components;
    }
    default:
      return false;
  }
}

void on_message(j_common_ptr codec, int level) {
  if (level < 0 && invents_pixels(codec)) on_error(codec);
}

jpeg_error_mgr* install(Errors& errors) {
  jpeg_std_error(&errors);
  errors.error_exit = on_error;
  errors.emit_message = on_message;
  return &errors;
}

using decoders::Decoded, decoders::Layout;

// False: errors.message has the reason. No object here has a destructor that longjmp could skip.
bool decode_into(const decoders::Source& source, const decoders::JpegHeader& header, Decoded& out,
                 Errors& errors) {
  jpeg_decompress_struct codec{};
  codec.err = install(errors);
  if (setjmp(errors.jump)) {
    jpeg_destroy_decompress(&codec);
    return false;
  }
  jpeg_create_decompress(&codec);
  jpeg_mem_src(&codec, source.bytes.data(), source.bytes.size());
  jpeg_read_header(&codec, TRUE);
  codec.out_color_space = out.layout == Layout::Gray ? JCS_GRAYSCALE : out.layout == Layout::Cmyk ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(&codec);
  if (static_cast<int>(codec.output_width) != out.width || static_cast<int>(codec.output_height) != out.height)
    ERREXIT(&codec, JERR_CONVERSION_NOTIMPL);  // read_jpeg_header would have to be wrong
  while (codec.output_scanline < codec.output_height) {
    JSAMPROW rows[4];
    const int y = static_cast<int>(codec.output_scanline), count = std::min(4, out.height - y);
    for (int i = 0; i < count; ++i) rows[i] = out.row(y + i);
    jpeg_read_scanlines(&codec, rows, static_cast<JDIMENSION>(count));
  }
  if (!header.one_scan) jpeg_finish_decompress(&codec);  // reads on to the end marker
  jpeg_destroy_decompress(&codec);
  return true;
}

bool encode_into(const Image& image, int quality, unsigned char*& data, unsigned long& size, Errors& errors) {
  jpeg_compress_struct codec{};
  codec.err = install(errors);
  if (setjmp(errors.jump)) {
    jpeg_destroy_compress(&codec);
    return false;
  }
  jpeg_create_compress(&codec);
  jpeg_mem_dest(&codec, &data, &size);
  codec.image_width = static_cast<JDIMENSION>(image.width);
  codec.image_height = static_cast<JDIMENSION>(image.height);
  codec.input_components = 3;
  codec.in_color_space = JCS_RGB;
  jpeg_set_defaults(&codec);
  jpeg_set_quality(&codec, quality, TRUE);
  jpeg_start_compress(&codec, TRUE);
  for (int y = 0; y < image.height; ++y) {
    auto* row = const_cast<JSAMPROW>(image.row(y));
    jpeg_write_scanlines(&codec, &row, 1);
  }
  jpeg_finish_compress(&codec);
  jpeg_destroy_compress(&codec);
  return true;
}

}  // namespace

decoders::Decoded decoders::decode_jpeg(const Source& source) {
  JpegHeader header = read_jpeg_header(source);
  const Layout layout = header.components == 1 ? Layout::Gray : header.components == 4 ? Layout::Cmyk : Layout::Rgb;
  Decoded out(header.width, header.height, layout);
  out.orientation = header.orientation();
  out.icc = std::move(header.icc);
  Errors errors;
  if (!decode_into(source, header, out, errors)) {
    if (!header.ended) source.truncated();
    source.corrupt(errors.message);
  }
  if (out.layout == Layout::Cmyk && header.adobe_transform < 0)
    for (uint8_t& ink : out.pixels) ink ^= 255;
  return out;
}

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  QFM_CHECK(quality >= 1 && quality <= 100, "JPEG quality is ", quality, ", expected 1..100");
  unsigned char* data = nullptr;
  unsigned long size = 0;
  Errors errors;
  const bool done = encode_into(image, quality, data, size, errors);
  const std::unique_ptr<unsigned char, void (*)(void*)> owner(data, std::free);
  QFM_CHECK(done, "JPEG encoder: ", errors.message);
  return {data, data + size};
}

}  // namespace qfm
