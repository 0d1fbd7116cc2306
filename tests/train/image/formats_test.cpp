// Formats that libraries read: the pixels that other programs see, and refusals.
#include <algorithm>
#include <filesystem>
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
    CHECK(image.rgb == expected.bytes(name));
  }
  for (const auto& name : absent) MESSAGE("skipped: " << name << " is not built in");
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

}  // namespace qfm
