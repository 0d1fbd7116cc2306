#include "train/image/decode.h"

#include <algorithm>
#include <string_view>

#include "engine/base/io.h"
#include "train/image/decode/decoders.h"
#include "train/image/exif.h"
#include "train/image/file_kind.h"

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

struct Format {
  const char* name;
  Decoded (*decode)(const Source&);
};

Format recognise(std::span<const uint8_t> bytes, const std::string& name) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 2));
  const FileKind kind = file_kind(bytes);
  if (kind == FileKind::Jpeg) return {"JPEG", decode_jpeg};
  if (kind == FileKind::Png) return {"PNG", decode_png};
  if (kind == FileKind::Gif) return {"GIF", decode_gif};
  // Damaged ones too are told what is wrong.
  if (head == "BM") return {"BMP", decode_bmp};
  if (head == "P5" || head == "P6") return {"PNM", decode_pnm};
  QFM_CHECK(kind == FileKind::Other, name, ": ", name_of(kind), ", not built in: ", converter_of(kind),
            " makes a photo of it that can be read");
  if (looks_like_tga(bytes)) return {"TGA", decode_tga};
  QFM_CHECK(!bytes.empty(), name, ": empty file");
  QFM_FAIL(name, ": not a photo that can be read (JPEG, PNG, BMP, GIF, PNM or TGA)");
}

}  // namespace
}  // namespace decoders

Image decode_image(std::span<const uint8_t> bytes, const std::string& name, const DecodeOptions& options) {
  const auto format = decoders::recognise(bytes, name);
  auto [image, orientation] = format.decode({bytes, name, format.name, options.max_pixels});
  return options.exif ? upright(std::move(image), orientation) : std::move(image);
}

Image decode_image(const std::string& path, const DecodeOptions& options) {
  return decode_image(read_file(path), path, options);
}

}  // namespace qfm
