// PSNR, SSIM, MS-SSIM, GMSD and VIF against scikit-image and pyiqa (golden/make_full_reference.py).
#include "train/full_reference/full_reference.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/base/cpu.h"
#include "engine/base/io.h"
#include "engine/base/threads.h"
#include "tests/support.h"
#include "train/image/decode.h"

namespace qfm::test {
namespace {

Image part_of(const Image& image, int width, int height) {
  Image part(width, height);
  for (int y = 0; y < height; ++y) std::copy_n(image.row(y), 3 * width, part.row(y));
  return part;
}

// f(channel value) of every number.
template <class F>
Image mapped(Image image, F&& f) {
  for (uint8_t& c : image.rgb) c = static_cast<uint8_t>(f(c));
  return image;
}

Image box_blurred(const Image& image) {
  Image out(image.width, image.height);
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x)
      for (int c = 0; c < 3; ++c) {
        int sum = 12;
        for (int v = y - 2; v <= y + 2; ++v)
          for (int u = x - 2; u <= x + 2; ++u)
            sum += image.row(std::clamp(v, 0, image.height - 1))[3 * std::clamp(u, 0, image.width - 1) + c];
        out.row(y)[3 * x + c] = static_cast<uint8_t>(sum / 25);
      }
  return out;
}

Image distorted(const Image& image, const std::string& kind) {
  uint32_t state = 1;
  if (kind == "blur") return box_blurred(image);
  if (kind == "steps") return mapped(image, [](int c) { return c / 32 * 32 + 16; });
  if (kind == "contrast") return mapped(image, [](int c) { return (2 * c + 127) / 3; });
  if (kind == "inverted") return mapped(image, [](int c) { return 255 - c; });
  if (kind == "noise")
    return mapped(image, [&](int c) {
      state = state * 1664525 + 1013904223;
      return std::clamp(c + static_cast<int>((state >> 16) % 61) - 30, 0, 255);
    });
  Image out = image;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x) {
      uint8_t* to = out.row(y) + 3 * x;
      if (kind == "colour") to[0] = static_cast<uint8_t>(std::min(255, to[0] + 20));
      else std::copy_n(image.row(y) + 3 * std::max(0, x - 1), 3, to);  // shifted
    }
  return out;
}

void check_near(const std::optional<double>& value, const nlohmann::json& expected) {
  REQUIRE(value.has_value() == !expected.is_null());
  if (value) CHECK(std::abs(*value - expected.get<double>()) < 1e-4);
}

// Each code that this processor can run.
template <class F>
void for_paths(F&& f) {
  const CpuPath before = cpu();
  for (const CpuIsa isa : {CpuIsa::Plain, CpuIsa::Avx2, CpuIsa::Avx512})
    if (available(isa)) {
      CAPTURE(name_of(isa));
      set_cpu_path(isa);
      f();
    }
  set_cpu_path(before.isa, before.dot);
}

TEST_CASE("the five measures are scikit-image's and pyiqa's, on every path") {
  const auto golden = nlohmann::json::parse(read_text(golden_path("full_reference.json")));
  const Image pictures[] = {decode_image(golden_path("full_reference_a.png")),
                            decode_image(golden_path("full_reference_b.png"))};
  REQUIRE(golden["cases"].size() == 35);
  for (const auto& expected : golden["cases"]) {
    CAPTURE(expected.dump());
    const Image reference = part_of(pictures[expected["picture"] == "b"], expected["width"].get<int>(),
                                    expected["height"].get<int>());
    const Image other = distorted(reference, expected["kind"].get<std::string>());
    for_paths([&] {
      const FullReference found = full_reference(reference, other);
      check_near(found.psnr, expected["psnr"]);
      check_near(found.ssim, expected["ssim"]);
      check_near(found.ms_ssim, expected["ms_ssim"]);
      check_near(found.gmsd, expected["gmsd"]);
      check_near(found.vif, expected["vif"]);
    });
  }
}

TEST_CASE("equal photos, flat ones and small ones") {
  const Image photo = decode_image(golden_path("full_reference_a.png"));
  const FullReference same = full_reference(photo, photo);
  CHECK(!same.psnr);
  CHECK(same.ssim == 1);
  CHECK(same.ms_ssim == 1);
  CHECK(same.gmsd == 0);
  CHECK(same.vif == 1);
  const Image gray = mapped(photo, [](int) { return 180; });
  CHECK(!full_reference(gray, photo).vif);
  CHECK(full_reference(photo, gray).vif < 1e-4);
  const auto of_size = [&](int width, int height) {
    const Image part = part_of(photo, width, height);
    return full_reference(part, distorted(part, "steps"));
  };
  CHECK(of_size(161, 161).ms_ssim.has_value());
  CHECK(!of_size(161, 160).ms_ssim.has_value());
  CHECK(of_size(33, 33).vif.has_value());
  CHECK(!of_size(32, 33).vif.has_value());
  CHECK(of_size(11, 40).ssim.has_value());
  CHECK(!of_size(40, 10).ssim.has_value());
  CHECK(of_size(4, 4).gmsd.has_value());
  CHECK(!of_size(3, 4).gmsd.has_value());
  CHECK(of_size(1, 1).psnr.has_value());
  CHECK(contains(message_of([&] { full_reference(photo, part_of(photo, 40, 30)); }),
                 "is 40 x 30, the reference 200 x 177"));
}

TEST_CASE("the map of differences lies where the damage is, and its bits do not depend on threads") {
  const Image photo = decode_image(golden_path("full_reference_a.png"));
  Image damaged = photo;
  for (int y = 60; y < 80; ++y)
    for (int i = 3 * 120; i < 3 * 150; ++i) damaged.row(y)[i] = static_cast<uint8_t>(255 - damaged.row(y)[i]);
  const Plane map = ssim_difference(photo, damaged);
  REQUIRE(map.width == 200);
  REQUIRE(map.height == 177);
  CHECK(map.row(70)[135] > 0.5f);
  CHECK(map.row(20)[135] == 0);
  CHECK(map.row(70)[20] == 0);
  const int before = threads();
  set_threads(1);
  const FullReference alone = full_reference(photo, damaged);
  set_threads(3);
  const FullReference together = full_reference(photo, damaged);
  set_threads(before);
  CHECK(alone.ssim == together.ssim);
  CHECK(alone.vif == together.vif);
  CHECK(alone.gmsd == together.gmsd);
}

}  // namespace
}  // namespace qfm::test
