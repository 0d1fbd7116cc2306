#include "train/image/decode.h"

#include <algorithm>
#include <string_view>

#include "engine/base/io.h"
#include "train/image/decode/decoders.h"
#include "train/image/exif.h"
#include "train/image/formats.h"

namespace qfm {
namespace decoders {

void Source::check_size(int64_t width, int64_t height, int64_t pixels_per_byte) const {
  constexpr int64_t most = int64_t{1} << 32;  // keeps the products below in range
  QFM_CHECK(width > 0 && height > 0, name, ": ", format, " without pixels (", width, "x", height, ")");
  QFM_CHECK(width < most && height < most && width <= max_pixels / height, name, ": ", width, "x", height,
            " pixels, more than the ", max_pixels, " allowed");
  QFM_CHECK(width * height / pixels_per_byte <= static_cast<int64_t>(bytes.size()), name, ": truncated ",
            format, ": ", bytes.size(), " bytes cannot hold ", width, "x", height, " pixels");
}

namespace {

// The kind of the whole file, of a damaged one too.
FileKind kind_of(std::span<const uint8_t> bytes) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 2));
  const FileKind kind = file_kind(bytes);
  if (kind == FileKind::Tiff && is_camera_raw(bytes)) return FileKind::Raw;
  if (kind != FileKind::Other) return kind;
  if (head == "BM") return FileKind::Bmp;
  if (head == "P5" || head == "P6") return FileKind::Pnm;
  return looks_like_tga(bytes) ? FileKind::Tga : FileKind::Other;
}

const Format& recognise(std::span<const uint8_t> bytes, const std::string& name) {
  const FileKind kind = kind_of(bytes);
  const Format& format = format_of(kind);
  QFM_CHECK(!bytes.empty(), name, ": empty file");
  QFM_CHECK(kind != FileKind::Other, name, ": not a photo that can be read (", readable_formats(), ")");
  const std::string option = *format.option ? concat("-D", format.option, "=ON or ") : "";
  QFM_CHECK(format.decode, name, ": ", format.name, ", not built in: ", option, format.converter, " makes it readable");
  return format;
}

}  // namespace
}  // namespace decoders

DecodedPhoto decode_photo(std::span<const uint8_t> bytes, const std::string& name, const DecodeOptions& options) {
  const Format& format = decoders::recognise(bytes, name);
  decoders::Decoded decoded = format.decode({bytes, name, format.name, options.max_pixels});
#if QFM_WITH_ICC
  if (options.icc) decoders::to_srgb(decoded);
#endif
  const int orientation = options.exif ? decoded.orientation : 1;
  const char* preview_of = decoded.preview_of;
  return {upright(decoders::to_rgb(std::move(decoded)), orientation), preview_of};
}

Image decode_image(std::span<const uint8_t> bytes, const std::string& name, const DecodeOptions& options) {
  return decode_photo(bytes, name, options).image;
}

Image decode_image(const std::string& path, const DecodeOptions& options) {
  return decode_image(read_file(path), path, options);
}

}  // namespace qfm
