// Camera raw files that are built as TIFF (CR2, NEF, ARW, DNG, PEF): the largest JPEG picture in them, as the camera made it.
#include <algorithm>
#include <string_view>

#include "train/image/decode/decoders.h"
#include "train/image/tiff_tags.h"

namespace qfm::decoders {
namespace {

constexpr uint32_t width_tag = 0x100, height_tag = 0x101, compression_tag = 0x103, photometric_tag = 0x106, make_tag = 0x10F,
                   strips_tag = 0x111, orientation_tag = 0x112, strip_bytes_tag = 0x117, directories_tag = 0x14A, jpeg_tag = 0x201,
                   jpeg_bytes_tag = 0x202, dng_tag = 0xC612;
constexpr uint32_t colour_filter = 32803, linear_raw = 34892;  // photometric interpretations of a sensor's own values
constexpr uint32_t old_jpeg = 6, jpeg = 7;                     // compressions

// All directories, those inside others too, each once.
std::vector<size_t> directories_of(const TiffTags& tiff) {
  constexpr size_t kMost = 64;
  std::vector<size_t> all;
  const auto add = [&](size_t at) {
    if (at != 0 && all.size() < kMost && std::ranges::count(all, at) == 0) all.push_back(at);
  };
  add(tiff.first_directory());
  for (size_t i = 0; i < all.size(); ++i) {
    add(tiff.next_directory(all[i]));
    const auto inside = tiff.entry(all[i], directories_tag, {TiffTags::long_type, TiffTags::directory_type});
    if (!inside) continue;
    const uint32_t count = std::min<uint32_t>(tiff.number(*inside + 4, 4), kMost);
    for (uint32_t k = 0; k < count; ++k) add(tiff.number(count == 1 ? *inside + 8 : tiff.number(*inside + 8, 4) + size_t{4} * k, 4));
  }
  return all;
}

bool holds_sensor_values(const TiffTags& tiff, size_t directory) {
  const uint32_t photometric = tiff.value(directory, photometric_tag).value_or(0);
  return photometric == colour_filter || photometric == linear_raw;
}

bool is_cr2(const TiffTags& tiff) { return tiff.bytes.size() > 10 && tiff.bytes[8] == 'C' && tiff.bytes[9] == 'R'; }

const char* raw_name(const TiffTags& tiff) {
  if (is_cr2(tiff)) return "CR2";
  const size_t first = tiff.first_directory();
  if (tiff.entry(first, dng_tag, {1})) return "DNG";
  const auto make = tiff.entry(first, make_tag, {TiffTags::text_type});
  const uint32_t length = make ? tiff.number(*make + 4, 4) : 0, at = length > 4 ? tiff.number(*make + 8, 4) : 0;
  std::string_view text;
  if (at < tiff.bytes.size()) text = {reinterpret_cast<const char*>(tiff.bytes.data()) + at, std::min<size_t>(length, tiff.bytes.size() - at)};
  return text.starts_with("NIKON") ? "NEF" : text.starts_with("SONY") ? "ARW" : text.starts_with("PENTAX") ? "PEF" : "RAW";
}

// The JPEG data of a directory; empty where it has none. Throws where they end behind the file.
std::span<const uint8_t> jpeg_in(const Source& source, const TiffTags& tiff, size_t directory) {
  auto at = tiff.value(directory, jpeg_tag), size = tiff.value(directory, jpeg_bytes_tag);
  const uint32_t compression = tiff.value(directory, compression_tag).value_or(0);
  if (!at && (compression == old_jpeg || compression == jpeg) && !holds_sensor_values(tiff, directory)) {
    const auto strips = tiff.entry(directory, strips_tag, {TiffTags::short_type, TiffTags::long_type});
    if (strips && tiff.number(*strips + 4, 4) == 1) at = tiff.value(directory, strips_tag), size = tiff.value(directory, strip_bytes_tag);
  }
  return at && size ? source.part(*at, *size) : std::span<const uint8_t>();
}

}  // namespace

bool is_camera_raw(std::span<const uint8_t> bytes) {
  const auto tiff = TiffTags::of(bytes);
  if (!tiff) return false;
  if (is_cr2(*tiff) || tiff->entry(tiff->first_directory(), dng_tag, {1})) return true;
  return std::ranges::any_of(directories_of(*tiff), [&](size_t directory) { return holds_sensor_values(*tiff, directory); });
}

Decoded decode_raw(const Source& raw) {
  const TiffTags tiff = *TiffTags::of(raw.bytes);
  const char* name = raw_name(tiff);
  const Source source{raw.bytes, raw.name, name, raw.max_pixels};
  int64_t sensor = 0, best = 0;  // pixels
  Source preview{{}, source.name, name, source.max_pixels};
  JpegHeader header;
  for (const size_t directory : directories_of(tiff)) {
    if (holds_sensor_values(tiff, directory))
      sensor = std::max(sensor, int64_t{tiff.value(directory, width_tag).value_or(0)} * tiff.value(directory, height_tag).value_or(0));
    const Source found{jpeg_in(source, tiff, directory), source.name, name, source.max_pixels};
    if (found.bytes.empty()) continue;
    JpegHeader jpeg_header;
    try {
      jpeg_header = read_jpeg_header(found);
    } catch (const Error&) {  // the sensor's values as lossless JPEG, or no JPEG
      continue;
    }
    const int64_t pixels = int64_t{jpeg_header.width} * jpeg_header.height;
    if (pixels > best) best = pixels, preview.bytes = found.bytes, header = jpeg_header;
  }
  constexpr int64_t megapixel = 1'000'000;
  if (best == 0 || (best < megapixel && 4 * best < sensor))
    QFM_FAIL(source.name, ": ", name, " without a JPEG preview of its size in it: a raw converter makes it readable");
  Decoded photo = decode_jpeg(preview);
  photo.orientation = header.exif_orientation.value_or(static_cast<int>(tiff.value(tiff.first_directory(), orientation_tag).value_or(1)));
  photo.preview_of = name;
  return photo;
}

}  // namespace qfm::decoders
