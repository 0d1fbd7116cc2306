// BMP files of every header and depth, made here: each pixel is known.
#include <algorithm>
#include <array>
#include <cstdlib>

#include "tests/support.h"
#include "tests/train/image/image_fixtures.h"

namespace qfm {
namespace {

using namespace test;

using Rgb = std::array<uint8_t, 3>;
using Pixels = std::vector<uint8_t>;
const std::vector<uint32_t> os2_headers = {16, 24, 36, 42, 48, 60, 64},
                            windows_headers = {40, 52, 56, 108, 124};

// Colours without order, so that no two neighbours are alike.
std::vector<Rgb> colours(size_t count) {
  Rng rng(3, "palette");
  std::vector<Rgb> out(count);
  for (Rgb& rgb : out)
    for (uint8_t& c : rgb) c = static_cast<uint8_t>(rng.below(256));
  return out;
}

std::vector<uint32_t> values(int count, uint32_t below, uint64_t seed = 1) {
  Rng rng(seed, "values");
  std::vector<uint32_t> out(static_cast<size_t>(count));
  for (uint32_t& v : out) v = below == 0 ? static_cast<uint32_t>(rng.next()) : rng.below(below);
  return out;
}

// The pixels in the order of the file, turned over where that is bottom to top.
template <class Look>
Pixels expected(const std::vector<uint32_t>& stored, int width, int height, Look&& look) {
  Pixels out;
  const auto w = static_cast<size_t>(width), h = static_cast<size_t>(std::abs(height));
  for (size_t y = 0; y < h; ++y)
    for (size_t x = 0; x < w; ++x) {
      const Rgb rgb = look(stored[(height < 0 ? y : h - 1 - y) * w + x]);
      out.insert(out.end(), rgb.begin(), rgb.end());
    }
  return out;
}

Pixels decoded(const Bmp& b) { return decode_text(write_bmp(b)).rgb; }
std::string refused(const Bmp& b) {
  return message_of([&] { decode_text(write_bmp(b)); });
}

uint8_t over_white(uint32_t c, uint32_t a) {
  return static_cast<uint8_t>((c * a + 255 * (255 - a) + 127) / 255);
}

Rgb rgb24(uint32_t v) {
  return {static_cast<uint8_t>(v >> 16), static_cast<uint8_t>(v >> 8), static_cast<uint8_t>(v)};
}
Rgb rgb555(uint32_t v) {
  const auto spread = [&](int shift) { return static_cast<uint8_t>((v >> shift & 31) * 255 / 31); };
  return {spread(10), spread(5), spread(0)};
}

// Pixels of one depth under one header, at widths that end anywhere in a byte and a word.
void check_depth(uint32_t header, int bits, bool top_down) {
  const std::vector<Rgb> palette = colours(bits <= 8 ? size_t{1} << bits : 0);
  for (const int width : {1, 2, 3, 5, 8, 9, 31, 33}) {
    CAPTURE(header);
    CAPTURE(bits);
    CAPTURE(width);
    const int height = top_down ? -3 : 3;
    const auto stored = values(3 * width, bits == 32 ? 0 : 1u << bits);
    const Bmp file{.width = width,
                   .height = height,
                   .rows = bmp_rows(stored, width, bits),
                   .bits = bits,
                   .palette = bmp_palette(palette, header == 12 ? 3 : 4),
                   .header = header};
    const auto look = [&](uint32_t v) { return bits <= 8 ? palette[v] : bits == 16 ? rgb555(v) : rgb24(v); };
    CHECK(decoded(file) == expected(stored, width, height, look));
  }
}

}  // namespace

TEST_CASE("BMP: every header at every depth, both ways up") {
  for (const int bits : {1, 2, 4, 8, 16, 24, 32}) {
    check_depth(12, bits, false);
    for (const auto& headers : {os2_headers, windows_headers})
      for (const uint32_t header : headers)
        for (const bool top_down : {false, true}) check_depth(header, bits, top_down);
  }
}

TEST_CASE("BMP: palettes short, full, too long and not needed, and a gap before the pixels") {
  const auto stored = values(60, 7);
  const std::vector<Rgb> seven = colours(7);
  const Pixels pixels = expected(stored, 10, 6, [&](uint32_t v) { return seven[v]; });
  for (const uint32_t header : {12u, 40u, 64u, 124u})
    for (const int bits : {4, 8})
      for (const size_t entries : {7, 16, 256, 300})
        for (const uint32_t used : {0, 7, 300})
          for (const char* gap : {"", "???????"}) {
            Bmp file{.width = 10, .height = 6, .rows = bmp_rows(stored, 10, bits), .bits = bits};
            std::vector<Rgb> palette = seven;
            palette.resize(entries);
            file.palette = bmp_palette(palette, header == 12 ? 3 : 4);
            file.header = header;
            file.colours_used = used;
            file.gap = gap;
            CHECK(decoded(file) == pixels);
          }
  for (const int bits : {16, 24, 32}) {
    const auto values_of = values(60, 1u << 15);
    Bmp file{.width = 10, .height = 6, .rows = bmp_rows(values_of, 10, bits), .bits = bits};
    const Pixels plain = decoded(file);
    file.palette = bmp_palette(colours(256), 4);
    file.colours_used = 256;
    file.gap = "gap";
    CHECK(decoded(file) == plain);
  }
}

TEST_CASE("BMP: colour masks") {
  const auto file = [](int bits, std::vector<uint32_t> masks, uint32_t value, uint32_t header, uint32_t how) {
    if (header >= 56) masks.resize(4);
    return Bmp{.width = 1,
               .height = 1,
               .rows = bmp_rows({value}, 1, bits),
               .bits = bits,
               .header = header,
               .compression = how,
               .masks = masks};
  };
  for (const uint32_t header : windows_headers) {
    CAPTURE(header);
    const auto pixel = [&](int bits, const std::vector<uint32_t>& masks, uint32_t value) {
      return decoded(file(bits, masks, value, header, 3));
    };
    CHECK(pixel(16, {0xF800, 0x7E0, 0x1F}, 1 << 11 | 2 << 5 | 30) == Pixels{8, 8, 246});
    CHECK(pixel(16, {0x7C00, 0x3E0, 0x1F}, 0x8000 | 31 << 10 | 16 << 5 | 1) == Pixels{255, 131, 8});
    CHECK(pixel(16, {0xF00, 0xF0, 0xF}, 0xF123) == Pixels{17, 34, 51});
    CHECK(pixel(16, {0xFF00, 0xFF, 0}, 0x1234) == Pixels{0x12, 0x34, 0});
    CHECK(pixel(24, {0xFF, 0xFF00, 0xFF0000}, 0x123456) == Pixels{0x56, 0x34, 0x12});
    CHECK(pixel(32, {0xFF0000, 0xFF00, 0xFF}, 0x80123456) == Pixels{0x12, 0x34, 0x56});
    CHECK(pixel(32, {0xFF000000, 0xFF0000, 0xFF00}, 0x12345680) == Pixels{0x12, 0x34, 0x56});
    CHECK(pixel(32, {0x3FF00000, 0xFFC00, 0x3FF}, 0xC0000000u | 1023u << 20 | 512 << 10 | 5) ==
          Pixels{255, 127, 1});
    CHECK(pixel(32, {0xFFFF0000, 0xFFFF, 1}, 0xFFFF8001) == Pixels{255, 127, 255});
  }
  const std::vector<uint32_t> with_alpha = {0xFF0000, 0xFF00, 0xFF, 0xFF000000};
  for (const auto& [header, how] : {std::pair{56u, 3u}, {108, 3}, {124, 3}, {40, 6}, {52, 6}, {124, 6}}) {
    CAPTURE(header);
    for (const uint32_t alpha : {0u, 1u, 128u, 255u})
      CHECK(decoded(file(32, with_alpha, alpha << 24 | 0x123456, header, how)) ==
            Pixels{over_white(0x12, alpha), over_white(0x34, alpha), over_white(0x56, alpha)});
    CHECK(decoded(file(16, {0xF00, 0xF0, 0xF, 0xF000}, 0x5123, header, how)) ==
          Pixels{over_white(17, 85), over_white(34, 85), over_white(51, 85)});
  }
  // Without compression by masks those of a header do not count, nor does the fourth byte.
  for (const uint32_t header : {108u, 124u})
    CHECK(decoded(file(32, with_alpha, 0x40123456, header, 0)) == Pixels{0x12, 0x34, 0x56});
  CHECK(contains(refused(file(32, {0xF0F, 0xF0, 0xF000}, 0, 40, 3)), "corrupt BMP: colour mask with gaps"));
  CHECK(contains(refused(file(16, {0xFF0000, 0xFF00, 0xFF}, 0, 40, 3)), "colour mask outside of the pixel"));
  CHECK(contains(refused(file(32, {0, 0, 0}, 0, 40, 3)), "colour masks without bits"));
  CHECK(contains(refused(file(8, {0xFF, 0xFF, 0xFF}, 0, 40, 3)), "colour masks at a depth of 8 bits"));
}

namespace {

// A picture of 6 x 3 in run lengths; letters are indices, the last row first.
Bmp runs(const std::string& stream, uint32_t how = 1) {
  return {.width = 6,
          .height = 3,
          .rows = stream,
          .bits = how == 1 ? 8 : 4,
          .palette = bmp_palette(colours(16), 4),
          .compression = how};
}
Pixels indexed(const std::string& rows) {
  const auto palette = colours(16);
  Pixels out;
  for (char digit : rows) {
    const Rgb& rgb = palette[static_cast<size_t>(digit - 'a')];
    out.insert(out.end(), rgb.begin(), rgb.end());
  }
  return out;
}
std::string bytes(std::initializer_list<int> list) {
  std::string out;
  for (int b : list) out += static_cast<char>(b);
  return out;
}

}  // namespace

TEST_CASE("BMP: run lengths of 8 and 4 bits") {
  const auto rle8 = [](std::initializer_list<int> list) { return decoded(runs(bytes(list))); };
  const auto rle4 = [](std::initializer_list<int> list) { return decoded(runs(bytes(list), 2)); };
  const Pixels whole = indexed(
      "bbbbbb"
      "cdefgh"
      "aaaaab");
  const std::initializer_list<int> stream = {5, 0, 1, 1, 0, 0, 0, 6, 2, 3, 4,
                                             5, 6, 7, 0, 0, 6, 1, 0, 0, 0, 1};
  CHECK(rle8(stream) == whole);
  CHECK(rle4({5, 0, 1, 16, 0, 0, 0, 6, 0x23, 0x45, 0x67, 0, 0, 0, 6, 0x11, 0, 1}) == whole);
  CHECK(rle8({5, 0, 1, 1, 0, 0, 0, 6, 2, 3, 4, 5, 6, 7, 0, 0, 6, 1}) == whole);  // no end mark
  Bmp turned = runs(bytes(stream));
  turned.height = -3;
  CHECK(decoded(turned) == indexed("aaaaab"
                                   "cdefgh"
                                   "bbbbbb"));
  // An odd number of single pixels is filled up to a word; nibbles alternate.
  CHECK(rle8({0, 3, 1, 2, 3, 99, 3, 4, 0, 0, 0, 5, 1, 2, 3, 4, 5, 99, 1, 0, 0, 0, 6, 9}) ==
        indexed("jjjjjj"
                "bcdefa"
                "bcdeee"));
  CHECK(rle4({0, 3, 0x12, 0x3F, 3, 0x45, 0, 0, 0, 5, 0x12, 0x34, 0x5F, 99, 1, 0xA0, 0, 0, 6, 0x9A}) ==
        indexed("jkjkjk"
                "bcdefk"
                "bcdefe"));
  // What is skipped, or left over at the end of a row or of the picture, has the first colour.
  CHECK(rle8({1, 1, 0, 2, 2, 1, 1, 2, 0, 2, 1, 0, 1, 3, 0, 1}) == indexed("aaaaaa"
                                                                          "aaacad"
                                                                          "baaaaa"));
  CHECK(rle4({1, 0x10, 0, 2, 2, 1, 1, 0x20, 0, 0, 2, 0x34, 0, 1}) == indexed("deaaaa"
                                                                             "aaacaa"
                                                                             "baaaaa"));
  CHECK(rle8({2, 1, 0, 1}) == indexed("aaaaaa"
                                      "aaaaaa"
                                      "bbaaaa"));
  CHECK(rle8({0, 2, 6, 2}) == indexed(std::string(18, 'a')));
  CHECK(rle8({0, 2, 0, 3}) == indexed(std::string(18, 'a')));
  for (const uint32_t header : {48u, 56u, 64u, 124u}) {
    Bmp file = runs(bytes(stream));
    file.header = header;
    CHECK(decoded(file) == whole);
  }
}

TEST_CASE("BMP: run lengths that lie are refused") {
  const auto reason = [](std::initializer_list<int> list, uint32_t how) {
    return refused(runs(bytes(list), how));
  };
  for (const uint32_t how : {1u, 2u}) {
    CHECK(contains(reason({7, 0, 0, 1}, how), "run beyond the end of a row"));
    CHECK(contains(reason({3, 0, 4, 0, 0, 1}, how), "run beyond the end of a row"));
    CHECK(contains(reason({3, 0, 0, 4, 0, 0, 0, 0, 0, 1}, how), "run beyond the end of a row"));
    CHECK(contains(reason({0, 2, 7, 0, 0, 1}, how), "skip to outside of the picture"));
    CHECK(contains(reason({0, 2, 0, 4, 0, 1}, how), "skip to outside of the picture"));
    CHECK(contains(reason({0, 4, 0}, how), "truncated BMP"));
    CHECK(contains(reason({6, 0}, how), "truncated BMP"));
    CHECK(contains(reason({}, how), "truncated BMP"));
    Bmp wrong = runs(bytes({0, 1}), how);
    wrong.bits = 24;
    CHECK(contains(refused(wrong), "run lengths at a depth of 24 bits"));
  }
  CHECK(contains(reason({1, 16, 0, 1}, 1), "outside of the palette"));
  Bmp two = runs(bytes({1, 0x20, 0, 1}), 2);
  two.palette.resize(8);
  CHECK(contains(refused(two), "outside of the palette"));
  Bmp huge = runs(bytes({0, 1}));
  huge.width = huge.height = 10000;
  CHECK(contains(refused(huge), "cannot hold 10000x10000 pixels"));
}

TEST_CASE("BMP: files that lie, or hold something else, are refused with a reason") {
  const Bmp good{.width = 3, .height = 2, .rows = std::string(24, 'x')};
  const auto with = [&](auto&& change) {
    Bmp file = good;
    change(file);
    return refused(file);
  };
  CHECK(with([](Bmp&) {}) == "");
  const std::string cut = write_bmp(good);
  for (size_t length = 2; length < cut.size(); ++length)
    CHECK(contains(message_of([&] { decode_text(cut.substr(0, length)); }), "truncated BMP"));
  CHECK(contains(with([](Bmp& b) { b.header = 0; }), "corrupt BMP: header of 0 bytes"));
  CHECK(contains(with([](Bmp& b) { b.header = 65; }), "corrupt BMP: header of 65 bytes"));
  CHECK(contains(with([](Bmp& b) { b.bits = 64; }), "64-bit BMP files are not supported"));
  CHECK(contains(with([](Bmp& b) { b.bits = 0; }), "corrupt BMP: depth of 0 bits"));
  CHECK(contains(with([](Bmp& b) { b.bits = 7; }), "corrupt BMP: depth of 7 bits"));
  CHECK(contains(with([](Bmp& b) { b.compression = 4; }), "JPEG-coded BMP files are not supported"));
  CHECK(contains(with([](Bmp& b) { b.compression = 5; }), "PNG-coded BMP files are not supported"));
  CHECK(contains(with([](Bmp& b) { b.compression = 7; }), "corrupt BMP: unknown compression 7"));
  CHECK(contains(with([](Bmp& b) { b.header = 64, b.compression = 3; }), "Huffman-coded BMP files are not"));
  CHECK(
      contains(with([](Bmp& b) { b.header = 64, b.compression = 4; }), "24-bit run-length-coded BMP files"));
  CHECK(contains(with([](Bmp& b) { b.header = 64, b.compression = 6; }), "unknown compression 6"));
  CHECK(contains(with([](Bmp& b) { b.pixels_at = 53; }), "pixels are said to begin within the header"));
  CHECK(contains(with([](Bmp& b) { b.pixels_at = 79; }), "truncated BMP"));
  CHECK(contains(with([](Bmp& b) { b.pixels_at = 0xFFFFFFFF; }), "truncated BMP"));
  CHECK(contains(with([](Bmp& b) { b.width = 0; }), "without pixels"));
  CHECK(contains(with([](Bmp& b) { b.width = -3; }), "without pixels"));
  CHECK(contains(with([](Bmp& b) { b.height = INT32_MIN; }), "more than the 200000000 allowed"));
  CHECK(contains(with([](Bmp& b) { b.width = INT32_MAX; }), "more than the 200000000 allowed"));
  CHECK(contains(with([](Bmp& b) { b.width = b.height = 5000; }), "cannot hold 5000x5000 pixels"));
  const auto indexed_file = [&](size_t colours_there, uint32_t used, uint32_t header, int entry) {
    return refused({.width = 4,
                    .height = 1,
                    .rows = bytes({0, 1, 2, 3}),
                    .bits = 8,
                    .palette = bmp_palette(colours(colours_there), entry),
                    .header = header,
                    .colours_used = used});
  };
  for (const uint32_t header : {12u, 40u, 64u}) {
    const int entry = header == 12 ? 3 : 4;
    CHECK(indexed_file(4, 0, header, entry) == "");
    CHECK(contains(indexed_file(3, 0, header, entry), "colour index outside of the palette"));
    CHECK(contains(indexed_file(0, 0, header, entry), "no palette before the pixels"));
    CHECK(contains(indexed_file(0, 4, header, entry), "no palette before the pixels"));
  }
  CHECK(contains(indexed_file(4, 3, 40, 4), "colour index outside of the palette"));
}

TEST_CASE("BMP: files that other programs wrote have the pixels that Pillow reads") {
  if (shared_path("reports/os2").empty() || shared_path("reports/bmp").empty())
    QFM_SKIP("reports/os2 and reports/bmp are absent");
  const auto sum = [](const std::string& name) {
    const Image image = decode_image(shared_path("reports/" + name));
    return crc32({image.rgb.begin(), image.rgb.end()});
  };
  CHECK(sum("os2/b8_full_palette.bmp") == sum("os2/b8_full_palette_ref.png"));
  CHECK(sum("os2/b1.bmp") == 0x72453bcf);
  CHECK(sum("bmp/b24_with_palette.bmp") == 0x4e8683a8);
  CHECK(sum("bmp/b32_bgrx_garbage.bmp") == 0x4e8683a8);
  CHECK(sum("bmp/rle8.bmp") == 0xe47d5294);
}

}  // namespace qfm
