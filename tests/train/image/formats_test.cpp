// Formats that libraries read: the pixels that other programs see, and refusals.
#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "engine/base/io.h"
#include "engine/safetensors.h"
#include "tests/support.h"
#include "tests/train/image/image_fixtures.h"
#include "train/image/formats.h"

namespace qfm {
namespace {

using namespace test;

const Format& format_of_file(const std::string& path) { return format_of(file_kind(path)); }

std::string golden_file(const std::string& name) { return text(read_file(golden_path("formats/" + name))); }

// The file with numbers of `now` in place of each of `before`.
std::string lying(std::string file, const std::string& before, const std::string& now) {
  size_t at = file.find(before);
  REQUIRE(at != file.npos);
  for (; at != file.npos; at = file.find(before, at + now.size())) file.replace(at, before.size(), now);
  return file;
}

}  // namespace

TEST_CASE("files of each format have the pixels that other programs see") {
  const TensorFile expected = TensorFile::open(golden_path("formats/formats.safetensors"));
  std::set<std::string> absent;
  for (const auto& [name, entry] : expected.entries()) {
    CAPTURE(name);
    const std::string path = golden_path("formats/" + name);
    const Format& format = format_of_file(path);
    if (!format.decode) {
      absent.insert(format.name);
      CHECK_THROWS_WITH_AS(decode_image(path),
                           concat(path, ": ", format.name, ", not built in: -D", format.option, "=ON or ",
                                  format.converter, " makes it readable")
                               .c_str(),
                           Error);
      continue;
    }
    const Image image = decode_image(path);
    CHECK(image.height == entry.shape[0]);
    CHECK(image.width == entry.shape[1]);
    if (!QFM_WITH_ICC && (contains(name, "p3") || contains(name, "gray_profile"))) continue;
    if (!QFM_WITH_JPEG_TURBO && name.ends_with(".jpg")) continue;  // stb rounds in another way
    CHECK(image.rgb == expected.bytes(name));
  }
  for (const auto& name : absent) MESSAGE("skipped: " << name << " is not built in");
}

TEST_CASE("a profile counts unless it is not wanted") {
#if QFM_WITH_ICC
  const auto rgb = [](const std::string& name, bool icc) {
    return decode_image(golden_path("formats/" + name), {.icc = icc}).rgb;
  };
  for (const char* name : {"p3.jpg", "p3_alpha.png", "gray_profile.jpg"}) CHECK(rgb(name, true) != rgb(name, false));
  CHECK(rgb("p3.png", false) == rgb("wrong_profile.png", true));
#else
  QFM_SKIP("lcms2 is not built in");
#endif
}

TEST_CASE("a picture larger than allowed is refused by its header") {
  for (const auto& entry : std::filesystem::directory_iterator(golden_path("formats"))) {
    const std::string path = entry.path();
    if (!format_of_file(path).decode) continue;
    CAPTURE(path);
    const Image image = decode_image(path);
    const int64_t pixels = int64_t{image.width} * image.height;
    CHECK(decode_image(path, {.max_pixels = pixels}).rgb == image.rgb);
    CHECK_THROWS_AS(decode_image(path, {.max_pixels = pixels - 1}), Error);
  }
}

TEST_CASE("headers that lie about the size are refused before memory is taken") {
  const std::string long_tag = std::string("\x04\0\x01\0\0\0", 6), huge = be32(20000);
  std::string tiff = golden_file("plain.tif");
  for (const int side : {45, 31})
    tiff = lying(tiff, long_tag + le(static_cast<uint32_t>(side), 4), long_tag + le(20000, 4));
  const std::string ispe("ispe\0\0\0\0", 8), sides = be32(45) + be32(31);
  const std::map<std::string, std::string> files = {
      {"TIFF", tiff},
      {"HEIC", lying(golden_file("plain.heic"), ispe + sides, ispe + huge + huge)},
      {"AVIF", lying(golden_file("plain.avif"), ispe + sides, ispe + huge + huge)},
      {"WebP", lying(golden_file("lossy.webp"), le(45, 2) + le(31, 2), le(16383, 2) + le(16383, 2))}};
  for (const auto& [name, file] : files) {
    if (!std::ranges::any_of(formats(), [&](const Format& f) { return f.name == name && f.decode; })) continue;
    CAPTURE(name);
    CHECK_THROWS_WITH_AS(decode_text(file), doctest::Contains("pixels, more than the 200000000 allowed"), Error);
  }
}

}  // namespace qfm
