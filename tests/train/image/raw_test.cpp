// Camera raw files: the JPEG preview of each kind, found where that camera puts it.
#include "tests/support.h"
#include "tests/train/image/image_fixtures.h"
#include "train/image/exif.h"

namespace qfm {
namespace {

using namespace test;

struct Tag {
  uint32_t tag, type, count, value;
};
constexpr uint32_t byte_type = 1, text_type = 2, short_type = 3, long_type = 4;

// A little-endian TIFF file under construction: directories may point to what comes later.
struct RawFile {
  std::string bytes = "II*" + std::string(1, '\0') + le(0, 4);

  uint32_t put(const std::string& data) {
    bytes += data;
    return static_cast<uint32_t>(bytes.size() - data.size());
  }
  uint32_t directory(const std::vector<Tag>& tags, uint32_t next = 0) {
    std::string text = le(static_cast<uint32_t>(tags.size()), 2);
    for (const Tag& t : tags) text += le(t.tag, 2) + le(t.type, 2) + le(t.count, 4) + le(t.value, 4);
    return put(text + le(next, 4));
  }
  std::string whole(uint32_t first) const { return bytes.substr(0, 4) + le(first, 4) + bytes.substr(8); }
};

struct Pictures {
  std::string large, small;
  Image image;
  static std::string jpeg(const Image& image) { return test::text(encode_jpeg(image, 90)); }
  Pictures() : large(jpeg(drawn(96, 64))), small(jpeg(drawn(24, 16))), image(decode_text(large)) {}
  uint32_t bytes() const { return static_cast<uint32_t>(large.size()); }
};

constexpr uint32_t sensor = 32803;

std::string cr2(const Pictures& p) {
  RawFile file;
  file.bytes += "CR\x02" + std::string(5, '\0');
  const uint32_t small = file.put(p.small), large = file.put(p.large);
  const uint32_t thumbnail = file.directory({{0x201, long_type, 1, small}, {0x202, long_type, 1, static_cast<uint32_t>(p.small.size())}});
  return file.whole(file.directory({{0x103, short_type, 1, 6}, {0x111, long_type, 1, large}, {0x112, short_type, 1, 6}, {0x117, long_type, 1, p.bytes()}}, thumbnail));
}

std::string nef(const Pictures& p) {
  RawFile file;
  const uint32_t make = file.put("NIKON CORPORATION" + std::string(1, '\0')), large = file.put(p.large);
  const uint32_t preview = file.directory({{0x103, short_type, 1, 6}, {0x201, long_type, 1, large}, {0x202, long_type, 1, p.bytes()}});
  const uint32_t raw = file.directory({{0x100, long_type, 1, 100}, {0x101, long_type, 1, 70}, {0x106, short_type, 1, sensor}});
  const uint32_t both = file.put(le(preview, 4) + le(raw, 4));
  return file.whole(file.directory({{0x10F, text_type, 18, make}, {0x112, short_type, 1, 8}, {0x14A, long_type, 2, both}}));
}

std::string arw(const Pictures& p) {
  RawFile file;
  const uint32_t make = file.put("SONY" + std::string(2, '\0')), large = file.put(p.large);
  const uint32_t raw = file.directory({{0x100, short_type, 1, 100}, {0x101, short_type, 1, 70}, {0x103, short_type, 1, 32767}, {0x106, short_type, 1, sensor}});
  return file.whole(file.directory({{0x10F, text_type, 5, make}, {0x14A, long_type, 1, raw}, {0x201, long_type, 1, large}, {0x202, long_type, 1, p.bytes()}}));
}

std::string dng(const Pictures& p) {
  RawFile file;
  const uint32_t large = file.put(p.large);
  const uint32_t preview = file.directory({{0x103, short_type, 1, 7}, {0x106, short_type, 1, 6}, {0x111, long_type, 1, large}, {0x117, long_type, 1, p.bytes()}});
  return file.whole(file.directory({{0x106, short_type, 1, sensor}, {0x112, short_type, 1, 3}, {0x14A, long_type, 1, preview}, {0xC612, byte_type, 4, 0x401}}));
}

DecodedPhoto decoded(const std::string& bytes) {
  return decode_photo({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "photo", {});
}

}  // namespace

TEST_CASE("the preview of a camera raw file, turned as the camera was held") {
  const Pictures p;
  const struct {
    const char* name;
    std::string file;
    int orientation;
  } files[] = {{"CR2", cr2(p), 6}, {"NEF", nef(p), 8}, {"ARW", arw(p), 1}, {"DNG", dng(p), 3}};
  for (const auto& f : files) {
    CAPTURE(f.name);
    const DecodedPhoto photo = decoded(f.file);
    CHECK(photo.preview_of == f.name);
    CHECK(photo.image.rgb == upright(p.image, f.orientation).rgb);
    for (size_t cut = 0; cut < f.file.size(); cut += 7)
      try {
        decoded(f.file.substr(0, cut));
      } catch (const Error&) {
      }
  }
  CHECK(decoded(p.large).preview_of.empty());
}

TEST_CASE("a raw file without a preview of its size, or with half of one, is refused") {
  Pictures p;
  const auto refusal = [](const std::string& bytes) { return message_of([&] { decoded(bytes); }); };
  std::string cut = nef(p);
  const std::string entry = le(0x202, 2) + le(long_type, 2) + le(1, 4);
  cut.replace(cut.find(entry) + entry.size(), 4, le(1u << 20, 4));
  CHECK(contains(refusal(cut), "photo: truncated NEF"));
  p.large = p.small;
  CHECK(contains(refusal(nef(p)), "photo: NEF without a JPEG preview of its size"));
  p.large = "no JPEG";
  CHECK(contains(refusal(dng(p)), "photo: DNG without a JPEG preview"));
}

}  // namespace qfm
