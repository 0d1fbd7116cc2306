// Photos against Pillow's golden pixels, the written colour policy, crop geometry and distortions.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <tuple>

#include "engine/base/cpu.h"
#include "engine/base/threads.h"
#include "engine/safetensors.h"
#include "tests/support.h"
#include "tests/train/image/image_fixtures.h"
#include "train/image/distort.h"
#include "train/image/resize.h"
#include "train/image/transform.h"

namespace qfm {
namespace {

using namespace test;

// The golden photos are not ours to copy: a clone without them skips these cases.
std::string golden_image(const std::string& name) { return shared_path("golden/image/" + name); }

struct Golden {
  int64_t width, height;
  std::vector<unsigned char> rgb;
};
Golden golden(const TensorFile& file, const std::string& name) {
  const auto& shape = file.entry(name).shape;
  return {shape[1], shape[0], file.bytes(name)};
}

// The largest difference, or 256 where the sizes differ. `left_out`: columns at the right that do not count.
int difference(const Image& image, const Golden& expected, int left_out = 0) {
  if (image.width != expected.width || image.height != expected.height) return 256;
  int worst = 0;
  for (size_t i = 0; i < image.rgb.size(); ++i)
    if (static_cast<int>(i / 3) % image.width < image.width - left_out)
      worst = std::max(worst, std::abs(image.rgb[i] - expected.rgb[i]));
  return worst;
}

// libjpeg-turbo gives equality; the golden files' table allows 3 for other decoders.
#if QFM_WITH_JPEG_TURBO
constexpr int jpeg_tolerance = 0, exif_tolerance = 1, wrong_columns_422 = 0;
#else  // stb 2.27 weights the last two chroma samples of a 4:2:2 row the wrong way round
constexpr int jpeg_tolerance = 3, exif_tolerance = 3, wrong_columns_422 = 2;
#endif

}  // namespace

TEST_CASE("colour modes give the golden pixels") {
  const std::string path = golden_image("modes.safetensors");
  if (path.empty()) QFM_SKIP("golden/image/modes.safetensors is absent");
  const std::map<std::string, int> tolerances = {{"gray8.png", 0},
                                                 {"gray16.png", 0},
                                                 {"rgb16.png", 0},
                                                 {"palette8.png", 0},
                                                 {"palette4.png", 0},
                                                 {"rgba8.png", 0},
                                                 {"palette_trns.png", 0},
                                                 {"gray_alpha8.png", 0},
                                                 {"rgba16.png", 0},
                                                 {"interlaced.png", 0},
                                                 {"interlaced_gray2.png", 0},
                                                 {"bw1.png", 0},
                                                 {"bmp24.bmp", 0},
                                                 {"bmp24_topdown.bmp", 0},
                                                 {"bmp8.bmp", 0},
                                                 {"cmyk.jpg", jpeg_tolerance},
                                                 {"gray.jpg", jpeg_tolerance},
                                                 {"progressive.jpg", jpeg_tolerance},
                                                 {"yuv420.jpg", jpeg_tolerance},
                                                 {"yuv422.jpg", jpeg_tolerance},
                                                 {"restart.jpg", jpeg_tolerance}};
  const TensorFile expected = TensorFile::open(path);
  for (const auto& [file, tolerance] : tolerances) {
    CAPTURE(file);
    std::string tensor = file;
    std::replace(tensor.begin(), tensor.end(), '.', '_');
    const int left_out = file == "yuv422.jpg" ? wrong_columns_422 : 0;
    CHECK(difference(decode_image(golden_image(file)), golden(expected, tensor), left_out) <= tolerance);
  }
}

TEST_CASE("EXIF orientation turns photos upright") {
  const std::string path = golden_image("exif.safetensors");
  if (path.empty()) QFM_SKIP("golden/image/exif.safetensors is absent");
  const TensorFile expected = TensorFile::open(path);
  const Image stored = decode_image(golden_image("exif_none.jpg"));
  for (int i = 1; i <= 8; ++i) {
    CAPTURE(i);
    const std::string name = concat("exif_", i);
    const Image image = decode_image(golden_image(name + ".jpg"));
    CHECK(difference(image, golden(expected, name)) <= exif_tolerance);
    const Image as_stored = decode_image(golden_image(name + ".jpg"), {.exif = false});
    CHECK((as_stored.width == image.width) == (i < 5));
  }
  for (const char* name : {"exif_value9.jpg", "exif_bad_offset.jpg"}) {
    const Image image = decode_image(golden_image(name));
    CHECK(image.width == stored.width);
    CHECK(image.rgb == stored.rgb);
  }
}

TEST_CASE("resize equals Pillow in every byte") {
  const std::string path = golden_image("resize.safetensors");
  if (path.empty()) QFM_SKIP("golden/image/resize.safetensors is absent");
  const TensorFile expected = TensorFile::open(path);
  int cases = 0;
  for (const auto& [name, entry] : expected.entries()) {
    if (name.ends_with(".vertical_first")) continue;
    CAPTURE(name);
    const std::string source = name.substr(0, name.find('.'));
    const auto how = contains(name, ".bicubic.") ? Resampling::Bicubic : Resampling::Bilinear;
    const Image image = decode_image(golden_image(source + ".png"));
    const auto result =
        resize(image, static_cast<int>(entry.shape[1]), static_cast<int>(entry.shape[0]), how);
    CHECK(difference(result, golden(expected, name)) == 0);
    ++cases;
  }
  CHECK(cases == 38);
  const Image landscape =
      resize_shorter_side(decode_image(golden_image("landscape.png")), 224, Resampling::Bilinear);
  CHECK(difference(landscape, golden(expected, "landscape.bilinear.298x224")) == 0);
}

TEST_CASE("normalised crops equal the golden ones") {
  const std::string path = golden_image("normalise.safetensors");
  if (path.empty()) QFM_SKIP("golden/image/normalise.safetensors is absent");
  const TensorFile file = TensorFile::open(path);
  const Image odd = decode_image(golden_image("odd.png"));
  for (const bool mirror : {false, true}) {
    const Tensor expected =
        file.tensor(mirror ? "x_flipped" : "x");  // (3, 48, 64): two square windows side by side
    double worst = 0;
    for (int part = 0; part < 2; ++part) {
      const int left = part == 0 ? 0 : 16;
      std::vector<float> x(3 * 48 * 48);
      normalise(x.data(), odd, {37 + (mirror ? 16 - left : left), 11}, 48, mirror);
      for (int c = 0; c < 3; ++c)
        for (int y = 0; y < 48; ++y)
          for (int i = 0; i < 48; ++i)
            worst = std::max<double>(worst, std::fabs(x[static_cast<size_t>((c * 48 + y) * 48 + i)] -
                                                      expected.data<float>()[(c * 48 + y) * 64 + left + i]));
    }
    CHECK(worst <= 3e-7);
  }
}

TEST_CASE("hand-made files follow the written policy") {
  const auto rgb = [](const std::string& file) { return decode_text(file).rgb; };
  using Pixels = std::vector<uint8_t>;
  CHECK(rgb(png(2, 1, 8, 0, "\x10\xf0")) == Pixels{16, 16, 16, 240, 240, 240});
  CHECK(rgb(png(1, 1, 16, 0, "\x12\xff")) == Pixels{0x12, 0x12, 0x12});
  CHECK(rgb(png(2, 1, 2, 0, "\x70")) == Pixels{85, 85, 85, 255, 255, 255});
  CHECK(rgb(png(1, 1, 8, 6, std::string("\x64\0\xff\x80", 4))) == Pixels{177, 127, 255});
  CHECK(rgb(png(1, 1, 8, 4, std::string("\x64\0", 2))) == Pixels{255, 255, 255});
  CHECK(rgb(png(2, 1, 8, 0, "\x10\x11", png_chunk("tRNS", std::string("\0\x10", 2)))) ==
        Pixels{255, 255, 255, 17, 17, 17});
  const std::string palette = png_chunk("PLTE", "abcABC"), half = png_chunk("tRNS", "\x80");
  CHECK(rgb(png(2, 1, 4, 3, "\x10", palette)) == Pixels{'A', 'B', 'C', 'a', 'b', 'c'});
  CHECK(rgb(png(2, 1, 8, 3, std::string("\x01\0", 2), palette + half)) ==
        Pixels{'A', 'B', 'C', 176, 176, 177});
  CHECK(rgb(bmp(1, 2, std::string("abc\0ABC\0", 8))) == Pixels{'C', 'B', 'A', 'c', 'b', 'a'});
  CHECK(rgb(bmp(1, -2, std::string("abc\0ABC\0", 8))) == Pixels{'c', 'b', 'a', 'C', 'B', 'A'});
  CHECK(rgb(bmp(2, 1, std::string("\x01\0\0\0", 4), 8, "abc_ABC_")) == Pixels{'C', 'B', 'A', 'c', 'b', 'a'});
  CHECK(rgb(tga(2, 1, "abcABC")) == Pixels{'c', 'b', 'a', 'C', 'B', 'A'});
  CHECK(rgb(tga(3, 1,
                "\x82"
                "abc",
                24, 10)) == Pixels{'c', 'b', 'a', 'c', 'b', 'a', 'c', 'b', 'a'});
  CHECK(rgb(tga(1, 1, "abc\x80", 32)) == Pixels{177, 176, 176});
  CHECK(rgb(tga_indexed(2, 1, std::string("\x01\0", 2))) == Pixels{'C', 'B', 'A', 'c', 'b', 'a'});
  CHECK(rgb(tga_indexed(3, 1, std::string("\x81\x01\0\0", 4), 9)) ==
        Pixels{'C', 'B', 'A', 'C', 'B', 'A', 'c', 'b', 'a'});
  CHECK(rgb("P6 # made by hand\n1 2\n255\nabcABC") == Pixels{'a', 'b', 'c', 'A', 'B', 'C'});
  CHECK(rgb("P5 2 1 65535\n\x12\x34\xff\xff") == Pixels{0x12, 0x12, 0x12, 255, 255, 255});
  CHECK(rgb(std::string("P5 2 1 3\n\x01\x03", 11)) == Pixels{85, 85, 85, 255, 255, 255});
  CHECK(rgb(gif(2, 2, {0, 1, 2, 3})) == Pixels{0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255});
  CHECK(rgb(gif(2, 1, {0, 1}, 0)) == Pixels{255, 255, 255, 255, 0, 0});
  CHECK(rgb(gif(2, 1, {3}, -1, 1, 1)) == Pixels{0, 0, 255, 255, 255, 255});  // what the frame leaves free
}

TEST_CASE("what we write we read again, upright") {
  const Image image = drawn(37, 23);
  CHECK(decode_text(text(encode_png(image))).rgb == image.rgb);
  const std::string jpeg = text(encode_jpeg(image, 100));
  const Image stored = decode_text(jpeg);
  for (uint32_t orientation = 0; orientation <= 9; ++orientation) {
    const Image turned = decode_text(with_orientation(jpeg, orientation));
    CHECK(turned.width == (orientation >= 5 && orientation <= 8 ? 23 : 37));
    CHECK(decode_text(with_orientation(jpeg, orientation), {.exif = false}).rgb == stored.rgb);
  }
  CHECK(std::equal(stored.row(22), stored.row(22) + 3, decode_text(with_orientation(jpeg, 6)).row(0)));
  const TemporaryFolder folder;
  write_image(folder / "a.png", image);
  CHECK(decode_image(folder / "a.png").rgb == image.rgb);
  CHECK_THROWS_AS(write_image(folder / "a.tif", image), Error);
  CHECK_THROWS_AS(write_image(folder / "no/a.png", image), Error);
}

TEST_CASE("resize has the same bits for any threads and processor") {
  const Image image = drawn(301, 199);
  const CpuIsa path = cpu_path();
  for (const auto how : {Resampling::Bilinear, Resampling::Bicubic})
    for (const auto& [w, h] : {std::pair{64, 48}, {301, 20}, {37, 199}, {1, 1}, {500, 333}}) {
      set_cpu_path(CpuIsa::Plain);
      set_threads(1);
      const Image plain = resize(image, w, h, how);
      set_cpu_path(path);
      set_threads(3);
      CHECK(resize(image, w, h, how).rgb == plain.rgb);
    }
  set_threads(0);
  Image flat(40, 30);
  std::fill(flat.rgb.begin(), flat.rgb.end(), uint8_t{77});
  for (const uint8_t v : resize(flat, 7, 90, Resampling::Bicubic).rgb) REQUIRE(v == 77);
  CHECK_THROWS_AS(resize(flat, 0, 5, Resampling::Bilinear), Error);
}

TEST_CASE("crop geometry") {
  const Rng rng(7, "crop", 0, 3);
  const auto windows = [&](const char* crops, int w, int h) {
    return crop_windows(parse_crops(crops), w, h, 224, rng);
  };
  CHECK(windows("center", 227, 226) == std::vector<CropWindow>{{1, 1}});
  CHECK(windows("grid", 224, 224) == std::vector<CropWindow>{{0, 0}});
  CHECK(windows("grid", 225, 224) == std::vector<CropWindow>{{0, 0}, {1, 0}});
  CHECK(windows("grid", 449, 224) == std::vector<CropWindow>{{0, 0}, {113, 0}, {225, 0}});  // 112.5: halves up
  CHECK(windows("grid", 4000, 3000).size() == 9);                                       // 4x4 -> 3x3
  CHECK(windows("grid", 4000, 448).size() == 8);
  CHECK(windows("grid", 4000, 600).size() == 9);  // 4x3 -> 3x3
  CHECK(windows("grid", 300, 5000).back() == CropWindow{76, 4776});
  const auto some = windows("random:50", 500, 300);
  CHECK(some == windows("random:50", 500, 300));
  CHECK(some.size() == 50);
  for (const CropWindow& w : some) CHECK((w.left >= 0 && w.left <= 276 && w.top >= 0 && w.top <= 76));
  CHECK_FALSE(some == crop_windows(parse_crops("random:50"), 500, 300, 224, Rng(8, "crop", 0, 3)));
  CHECK_THROWS_AS(windows("grid", 223, 500), Error);
  for (const char* bad :
       {"", "grid2", "random", "random:", "random:0", "random:-1", "random:5x", "random:99999"})
    CHECK_THROWS_AS(parse_crops(bad), Error);
  CHECK(name_of(parse_crops("random:12")) == "random:12");
}

TEST_CASE("photos are fitted before cropping") {
  const auto size = [](int w, int h, int64_t side, Resize fixed = {}) {
    const Image image = fit_for_crops(Image(w, h), fixed.fixed() ? fixed : Resize{side, 0, 0}, 224);
    return std::pair{image.width, image.height};
  };
  CHECK(size(512, 384, 0) == std::pair{512, 384});
  CHECK(size(512, 384, 256) == std::pair{341, 256});
  CHECK(size(512, 384, 384) == std::pair{512, 384});
  CHECK(size(512, 384, 500) == std::pair{512, 384});  // never up ...
  CHECK(size(100, 50, 0) == std::pair{448, 224});     // ... except to the crop
  CHECK(size(100, 50, 300) == std::pair{448, 224});
  CHECK(size(512, 384, 64) == std::pair{298, 224});                               // nor down below it
  CHECK(size(1024, 768, 0, parse_photo_size("512x384")) == std::pair{384, 512});  // height first, any shape
  CHECK_THROWS_AS(size(1, 100000, 0), Error);
  CHECK(parse_photo_size("none") == Resize{});
  CHECK(name_of(parse_photo_size("384")) == "384");
  for (const char* bad : {"", "100", "x", "384x", "x384", "384x100", "384x384x384", "99999", "-384"})
    CHECK_THROWS_AS(parse_photo_size(bad), Error);
}

TEST_CASE("windows resized alone are those of the whole photo") {
  for (const auto& [w, h, crops] : {std::tuple{5, 61, "grid"}, {61, 5, "grid"}, {40, 30, "random:2"}, {1, 30, "center"}}) {
    const Image photo = drawn(w, h), whole = fit_for_crops(photo, {}, 64, Resampling::Bicubic);
    const CutPhoto cut = cut_photo(photo, {}, 64, parse_crops(crops), Rng(3, "crop"), Resampling::Bicubic);
    CHECK(cut.windows == crop_windows(parse_crops(crops), whole.width, whole.height, 64, Rng(3, "crop")));
    REQUIRE(cut.image.rgb.size() <= whole.rgb.size());
    for (size_t i = 0; i < cut.windows.size(); ++i)
      for (int y = 0; y < 64; ++y) {
        const auto pixels = [y](const Image& image, CropWindow at) { return image.row(at.top + y) + 3 * at.left; };
        REQUIRE(std::equal(pixels(whole, cut.windows[i]), pixels(whole, cut.windows[i]) + 3 * 64,
                           pixels(cut.image, cut.places[i])));
      }
  }
  const CutPhoto strip = cut_photo(Image(1, 100000), {}, 224, {}, Rng(0, ""));
  CHECK(strip.windows.back().top == 224 * 100000 - 224);
  CHECK(strip.image.rgb.size() == 4 * 3 * 224 * 224);
  CHECK_THROWS_AS(cut_photo(Image(1, 10000000), {}, 224, {}, Rng(0, "")), Error);
  CHECK_THROWS_AS(resize_part(Image(4, 4), 8, 8, {4, 0, 5, 8}, Resampling::Bilinear), Error);
}

TEST_CASE("a mirrored window is the window backwards") {
  const Image image = drawn(20, 10);
  std::vector<float> x(3 * 64), y(3 * 64);
  normalise(x.data(), image, {5, 1}, 8, false);
  normalise(y.data(), image, {5, 1}, 8, true);
  for (size_t r = 0; r < 24; ++r)
    for (size_t i = 0; i < 8; ++i) CHECK(x[8 * r + i] == y[8 * r + 7 - i]);
  CHECK(x[0] == (static_cast<float>(image.row(1)[15]) / 255.0f - 0.485f) / 0.229f);
  CHECK_THROWS_AS(normalise(x.data(), image, {13, 0}, 8, false), Error);
}

TEST_CASE("each level of a distortion is farther from the photo") {
  const Image image = drawn(96, 64);
  for (const auto kind : {Distortion::Blur, Distortion::Noise, Distortion::Jpeg}) {
    CAPTURE(name_of(kind));
    CHECK(parse_distortion(name_of(kind)) == kind);
    double before = 0;
    for (int level = 1; level <= distortion_levels; ++level) {
      const Image worse = distort(image, kind, level, 5);
      double sum = 0;
      for (size_t i = 0; i < image.rgb.size(); ++i) sum += std::pow(worse.rgb[i] - image.rgb[i], 2);
      CHECK(sum > before);
      before = sum;
      CHECK(distort(image, kind, level, 5).rgb == worse.rgb);
    }
    CHECK_THROWS_AS(distort(image, kind, 6), Error);
  }
  CHECK(distort(image, Distortion::Noise, 2, 5).rgb != distort(image, Distortion::Noise, 2, 6).rgb);
  CHECK(distort(image, Distortion::Noise, 2, 5, 0).rgb != distort(image, Distortion::Noise, 2, 5, 1).rgb);
  CHECK_THROWS_AS(parse_distortion("fog"), Error);
}

}  // namespace qfm
