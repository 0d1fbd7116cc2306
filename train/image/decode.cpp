#include "train/image/decode.h"

#include <algorithm>
#include <string_view>

#include "engine/base/io.h"
#include "train/image/decode/decoders.h"
#include "train/image/exif.h"

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
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 8));
  if (head.starts_with("\xff\xd8\xff")) return {"JPEG", decode_jpeg};
  if (head == "\x89PNG\r\n\x1a\n") return {"PNG", decode_png};
  if (head.starts_with("BM")) return {"BMP", decode_bmp};
  if (head.starts_with("GIF87a") || head.starts_with("GIF89a")) return {"GIF", decode_gif};
  if (head.starts_with("P5") || head.starts_with("P6")) return {"PNM", decode_pnm};
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
