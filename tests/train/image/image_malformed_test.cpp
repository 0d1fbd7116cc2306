// Files that are cut, damaged or lie: one clear error each, never a crash, a hang or made-up pixels.
#include <malloc.h>

#include <algorithm>
#include <map>

#include "engine/base/io.h"
#include "tests/support.h"
#include "tests/train/image/image_fixtures.h"
#include "train/image/formats.h"

namespace qfm {
namespace {

using namespace test;

std::string refusal(const std::string& bytes, const DecodeOptions& options = {}) {
  try {
    decode_text(bytes, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "not refused";
}
bool refused(const std::string& bytes) { return refusal(bytes) != "not refused"; }

// Two decodes of one file under two of these differ where a pixel comes from memory that nothing was written
// to. The C library fills its memory only where it is not replaced, as by AddressSanitizer.
struct FilledMemory {
  explicit FilledMemory(int byte) {
    decoders::fill_stb_memory(byte);
    fill_library_memory(byte ^ 0xFF);
  }
  ~FilledMemory() {
    decoders::fill_stb_memory(-1);
    fill_library_memory(0);
  }
  static void fill_library_memory([[maybe_unused]] int inverted) {
#ifdef M_PERTURB
    ::mallopt(M_PERTURB, inverted);
#endif
  }
};
Image decode_filled(int byte, const std::string& bytes, const DecodeOptions& options = {}) {
  const FilledMemory filled(byte);
  return decode_text(bytes, options);
}

// OS/2 1.x with all of its palette; run lengths of every kind, without marks after the last pixel; V5 with alpha.
std::string os2_bmp() {
  std::string palette, rows;
  for (int i = 0; i < 768; ++i) palette += static_cast<char>(i);
  for (int i = 0; i < 240; ++i) rows += static_cast<char>(255 - i);
  return write_bmp({.width = 24, .height = 10, .rows = rows, .bits = 8, .palette = palette, .header = 12});
}
std::string runs_bmp() {
  const std::string rows("\x05\x01\0\0\0\x03\x01\0\x01\0\0\x02\x01\x01\x02\x01\0\0\x08\0", 20);
  return write_bmp(
      {.width = 8, .height = 4, .rows = rows, .bits = 8, .palette = "abc_ABC_", .compression = 1});
}
std::string alpha_bmp() {
  return write_bmp({.width = 6,
                    .height = 4,
                    .rows = std::string(96, 'x'),
                    .bits = 32,
                    .header = 124,
                    .compression = 3,
                    .masks = {0xFF0000, 0xFF00, 0xFF, 0xFF000000}});
}

// Hand-made files, and the golden ones where they are.
std::map<std::string, std::string> all_files() {
  const Image image = drawn(40, 24);
  const std::string jpeg = text(encode_jpeg(image, 80));
  std::map<std::string, std::string> files = {
      {"ours.png", text(encode_png(image))},
      {"ours.jpg", jpeg},
      {"exif.jpg", with_orientation(jpeg, 6)},
      {"palette.png", png(2, 2, 8, 3, std::string("\x01\0\0\x01", 4), png_chunk("PLTE", "abcABC"))},
      {"24.bmp", bmp(3, 2, std::string(24, 'x'))},
      {"8.bmp", bmp(4, 2, std::string("\0\x01\x01\0\0\x01\x01\0", 8), 8, "abc_ABC_")},
      {"os2.bmp", os2_bmp()},
      {"runs.bmp", runs_bmp()},
      {"alpha.bmp", alpha_bmp()},
      {"plain.tga", tga(60, 9, std::string(1620, 'x'))},
      {"indexed.tga", tga_indexed(40, 9, std::string(360, '\x01'))},
      {"runs.tga", tga(64, 4,
                       "\xff"
                       "abc"
                       "\xff"
                       "ABC",
                       24, 10)},
      {"gray.pnm", "P5 20 10 255\n" + std::string(200, 'x')},
      {"wide.pnm", "P6 4 3 65535\n" + std::string(72, 'x')},
      {"small.gif", gif(6, 4, std::vector<int>(24, 2), 1)},
  };
  if (const std::string folder = shared_path("golden/image"); !folder.empty())
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string name = entry.path().filename();
      if (name.ends_with(".png") || name.ends_with(".jpg") || name.ends_with(".bmp"))
        files[name] = text(read_file(entry.path()));
    }
  for (const auto& entry : std::filesystem::directory_iterator(golden_path("formats"))) {
    const std::string path = entry.path();
    if (format_of(file_kind(path)).decode) files["formats/" + entry.path().filename().string()] = text(read_file(path));
  }
  return files;
}

// Sets the checksums of a damaged PNG file right, so that the damage gets past them.
std::string with_sums(std::string file) {
  for (size_t at = 8; at + 12 <= file.size();) {
    size_t length = 0;
    for (size_t i = 0; i < 4; ++i) length = length << 8 | static_cast<unsigned char>(file[at + i]);
    if (length > file.size() - at - 12) break;
    file.replace(at + 8 + length, 4, be32(crc32(file.substr(at + 4, length + 4))));
    at += 12 + length;
  }
  return file;
}

}  // namespace

TEST_CASE("a file cut anywhere is refused, unless every pixel is there") {
  for (const auto& [name, file] : all_files()) {
    CAPTURE(name);
    CHECK_FALSE(refused(file));
    const size_t complete = file.size() - (name.ends_with(".gif") ? 1 : 0);  // the trailer holds no pixels
    const size_t step = std::max<size_t>(1, complete / (name.starts_with("formats/") ? 40 : 300));
    for (size_t length = 0; length<complete; length += length + 64> complete ? 1 : step) {
      CAPTURE(length);
      const std::string cut = file.substr(0, length);
      if (!refused(cut)) REQUIRE(decode_text(cut).rgb == decode_text(file).rgb);
    }
  }
  const std::string jpeg = text(encode_jpeg(drawn(200, 150), 90));
  CHECK(refusal(jpeg.substr(0, 5120)) == "photo: truncated JPEG at byte 5120");
  CHECK(refusal(bmp(3, 2, std::string(23, 'x'))) == "photo: truncated BMP at byte 77");
  CHECK(refusal(tga(60, 9, std::string(1619, 'x'))) == "photo: truncated TGA at byte 1637");
  CHECK(refusal("P5 20 10 255\n" + std::string(199, 'x')) == "photo: truncated PNM at byte 212");
  const std::string outside = "photo: corrupt TGA: colour index outside of the palette";
  CHECK(refusal(tga_indexed(2, 1, "\x01\x02")) == outside);
  CHECK(refusal(tga_indexed(2, 1, "\x81\x02", 9)) == outside);
  CHECK(refusal(tga_indexed(3, 1, "\x80\x01\x01\x01\x05", 9)) == outside);
  CHECK(refusal(tga_indexed(3, 1, "\x01\x01")) == "photo: truncated TGA at byte 26");
}

TEST_CASE("no pixel is made of memory that was not written to") {
  for (const auto& [name, file] : all_files()) {
    CAPTURE(name);
    CHECK(decode_filled(0x5A, file).rgb == decode_filled(0xA5, file).rgb);
  }
}

TEST_CASE("damaged files are decoded or refused") {
  const DecodeOptions options{.max_pixels = 1 << 20};
  int decoded = 0, refusals = 0;
  for (const auto& [name, file] : all_files()) {
    // What each library refuses is its own matter: here that it takes no pixel from elsewhere.
    const size_t most = name.starts_with("formats/") ? 6 : 300;
    const int variants = static_cast<int>(std::clamp<size_t>(400'000 / file.size(), 4, most));
    CAPTURE(name);
    for (int variant = 0; variant < variants; ++variant) {
      Rng rng(11, name, static_cast<uint32_t>(variant));
      std::string damaged = file;
      for (uint32_t n = 1 + rng.below(6); n > 0; --n) {
        const bool early = rng.below(2) == 0;  // headers matter more than pixels
        const auto size = static_cast<uint32_t>(early ? std::min<size_t>(file.size(), 80) : file.size());
        damaged[rng.below(size)] = static_cast<char>(rng.next());
      }
      for (const std::string& bytes : {damaged, with_sums(damaged)}) {
        try {
          const Image image = decode_filled(0x5A, bytes, options);
          REQUIRE(image.rgb == decode_filled(0xA5, bytes, options).rgb);
          REQUIRE(image.rgb.size() ==
                  size_t{3} * static_cast<size_t>(image.width) * static_cast<size_t>(image.height));
          REQUIRE(int64_t{image.width} * image.height <= options.max_pixels);
          ++decoded;
        } catch (const Error& error) {
          REQUIRE(std::string(error.what()).starts_with("photo: "));
          REQUIRE_FALSE(contains(error.what(), "\n"));
          ++refusals;
        }
      }
    }
  }
  CHECK(decoded > 0);
  CHECK(refusals > decoded);
}

TEST_CASE("sizes are checked before memory is taken") {
  const auto huge_jpeg = [] {
    std::string jpeg = text(encode_jpeg(drawn(16, 16), 80));
    const size_t frame = jpeg.find("\xff\xc0");
    return jpeg.replace(frame + 5, 4, "\xea\x60\xea\x60");
  }();
  const std::map<std::string, std::string> huge = {{"png", png(60000, 60000, 8, 2, std::string(60000, ' '))},
                                                   {"jpeg", huge_jpeg},
                                                   {"bmp", bmp(60000, 60000, "    ")},
                                                   {"tga", tga(60000, 60000, "    ")},
                                                   {"pnm", "P6 60000 60000 255\n    "},
                                                   {"gif", gif(60000, 60000, {1, 2})}};
  for (const auto& [name, file] : huge) {
    CAPTURE(name);
    CHECK(refusal(file) == "photo: 60000x60000 pixels, more than the 200000000 allowed");
    CHECK(contains(refusal(file, {.max_pixels = int64_t{1} << 40}), "cannot hold 60000x60000 pixels"));
  }
  for (const std::string& file :
       {png(0, 5, 8, 2, ""), bmp(0, 5, ""), tga(0, 5, "    "), std::string("P5 0 5 255\n"), gif(0, 5, {1})})
    CHECK(contains(refusal(file), "without pixels"));
  CHECK(contains(refusal(bmp(5, INT32_MIN, "")), "allowed"));
  CHECK(contains(refusal("P6 99999999999 1 255\n"), "number too large"));
  const std::string file = text(encode_png(drawn(40, 25)));
  CHECK(decode_text(file, {.max_pixels = 1000}).width == 40);
  CHECK(refusal(file, {.max_pixels = 999}) == "photo: 40x25 pixels, more than the 999 allowed");
}

#if QFM_WITH_JPEG_TURBO
TEST_CASE("JPEG: what loses no pixel is read, what loses one is not") {
  const std::string file = text(encode_jpeg(drawn(64, 48), 90));
  const auto pixels = decode_text(file).rgb;
  const size_t tables = file.find("\xff\xdb"), scan = file.find("\xff\xda");
  const auto with = [&](size_t at, const std::string& more) { return std::string(file).insert(at, more); };
  CHECK(decode_text(with(tables, std::string(40, '\0'))).rgb == pixels);  // junk between segments
  std::string numbers = file;  // spectral selection and approximation, which a sequential scan has no use for
  numbers[scan + 11] = numbers[scan + 12] = numbers[scan + 13] = '\0';
  CHECK(decode_text(numbers).rgb == pixels);
  CHECK(decode_text(file.substr(0, file.size() - 2)).rgb == pixels);                                  // no end marker
  CHECK(decode_text(file.substr(0, file.size() - 2) + "trailer \xff\x3a of a phone, SEFT").rgb == pixels);
  CHECK(refusal(file.substr(0, file.size() - 40)) == concat("photo: truncated JPEG at byte ", file.size() - 40));
  CHECK(contains(refusal(file.substr(0, file.size() - 60) + "\xff\xd9"), "premature end of data segment"));
}
#endif

TEST_CASE("a JPEG whose scan names a quantisation table that is not there is refused, whoever decodes") {
  const auto bytes = encode_jpeg(drawn(24, 17), 80);
  std::string file(bytes.begin(), bytes.end());
  REQUIRE(decode_text(file).width == 24);
  const size_t table = file.find("\xff\xdb");
  std::string renamed = file, cut = file;
  renamed[table + 4] = '\x03';  // was table 0
  CHECK(contains(refusal(renamed), "no quantisation table 0"));
  cut.erase(table, 2 + (static_cast<uint8_t>(file[table + 2]) << 8 | static_cast<uint8_t>(file[table + 3])));
  CHECK(contains(refusal(cut), "no quantisation table"));
  std::string shorter = file;
  shorter[table + 4] = '\x10';  // sixteen bits each: twice as long as it is
  CHECK(contains(refusal(shorter), "quantisation table"));
}

TEST_CASE("EXIF: the first block counts, the orientation may be LONG, PNG may keep it as ImageMagick's text") {
  const auto tiff = [](char type, int value) {  // one entry, big-endian
    std::string t("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0", 26);
    t[13] = type, t[type == 4 ? 21 : 19] = static_cast<char>(value);
    return t;
  };
  const std::string none("MM\0*\0\0\0\x08\0\0\0\0\0\0", 14);
  const auto segment = [](const std::string& exif) {
    const std::string content = std::string("Exif\0\0", 6) + exif;
    const size_t length = content.size() + 2;
    return std::string("\xff\xe1") + static_cast<char>(length >> 8) + static_cast<char>(length & 255) + content;
  };
  const std::string jpeg = text(encode_jpeg(drawn(64, 48), 90));
  const auto width = [&](const std::string& segments) { return decode_text(std::string(jpeg).insert(2, segments)).width; };
  CHECK(width("") == 64);
  CHECK(width(segment(tiff(3, 6))) == 48);
  CHECK(width(segment(tiff(4, 6))) == 48);
  CHECK(width(segment(tiff(3, 6)) + segment(none)) == 48);
  CHECK(width(segment(none) + segment(tiff(3, 6))) == 64);
  CHECK(width(segment(tiff(3, 1)) + segment(tiff(3, 6))) == 64);

  const auto hex = [](const std::string& bytes) {
    std::string digits;
    for (const char c : bytes) digits += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4], digits += "0123456789abcdef"[c & 15];
    return digits;
  };
  const auto raw = [&](const std::string& exif, size_t claimed) {
    return png_chunk("tEXt", std::string("Raw profile type exif\0", 22) + "\nexif\n    " + std::to_string(claimed) + "\n" + hex(exif) + "\n");
  };
  const std::string six = std::string("Exif\0\0", 6) + tiff(3, 6);
  const auto png_width = [&](const std::string& chunk) { return decode_text(png(2, 1, 8, 0, "ab", chunk)).width; };
  CHECK(png_width("") == 2);
  CHECK(png_width(raw(six, six.size())) == 1);
  CHECK(png_width(raw(tiff(3, 6), 26)) == 1);
  CHECK(png_width(raw(six, size_t{1} << 60)) == 1);  // a length that lies reads no further than the text
  for (const std::string& damaged : {raw(six, 3), png_chunk("tEXt", "Raw profile type exif"), png_chunk("zTXt", "Raw profile type exif"),
                                     png_chunk("zTXt", std::string("Raw profile type exif\0\0xyz", 26)),
                                     png_chunk("tEXt", std::string("Raw profile type exif\0\nexif\n 8\nzz11", 35))})
    CHECK(png_width(damaged) == 2);
}

TEST_CASE("files that lie are refused with a reason") {
  CHECK(refusal("") == "photo: empty file");
  CHECK(contains(refusal("Dear diary, this is no photo at all.\n"), "not a photo that can be read"));
  const std::string palette = png_chunk("PLTE", "abcABC");
  CHECK(contains(refusal(png(2, 1, 8, 3, "\x01\x02", palette)), "outside of the palette"));
  CHECK(contains(refusal(bmp(2, 1, std::string("\x02\0\0\0", 4), 8, "abc_ABC_")), "outside of the palette"));
  CHECK(contains(refusal(png(2, 1, 8, 3, "\x01\x01")), "bad palette"));
  CHECK(contains(refusal(png(1, 1, 8, 0, "x", png_chunk("CgBI", ""))), "unknown critical chunk"));
  std::string sums = png(1, 1, 8, 0, "x");
  sums[sums.find("IDAT") + 12] ^= 1;
  CHECK(contains(refusal(sums), "photo: corrupt PNG: "));
  CHECK(contains(refusal("P5 1 1 9\n\x0a"), "above the maximum"));
  CHECK(contains(refusal("P5 x"), "not made of numbers"));
  std::string scans = text(encode_jpeg(drawn(16, 16), 80));
  scans[scans.find("\xff\xc0") + 1] = '\xc2';  // said to be progressive, so that scans may follow each other
  const size_t scan = scans.find("\xff\xda");
  const std::string one = scans.substr(scan, scans.size() - 2 - scan);
  for (int i = 0; i < 100; ++i) scans.insert(scan, one);
  CHECK(refusal(scans) == "photo: corrupt JPEG: more than 100 scans");
  const std::string whole = gif(4, 2, {0, 1, 2, 3, 0, 1, 2, 3});
  CHECK(decode_text(whole).width == 4);
  for (const auto& too_few : {std::vector<int>{0, 1, 2, 3, 0, 1, 2}, {}})
    CHECK(contains(refusal(gif(4, 2, too_few)), "photo: corrupt GIF: "));
  CHECK(refusal(gif(4, 2, {0, 1, 2, 3}, -1, 5)) == "photo: corrupt GIF: first frame does not fit in");
  CHECK(refusal(whole.substr(0, 25) + ";") == "photo: corrupt GIF: no picture in it");
  std::string two_colours = whole;
  CHECK(refusal(two_colours.replace(10, 1, "\x80").erase(13, 6)) ==
        "photo: corrupt GIF: colour index outside of the palette");
#if QFM_WITH_JPEG_TURBO  // stb fills such a hole with zeros and does not say so
  std::string hole = text(encode_jpeg(drawn(64, 64), 80));
  hole.erase(hole.size() * 3 / 4, hole.size() / 8);
  hole.insert(hole.size() * 3 / 4, "\xff\xd9");
  CHECK(contains(refusal(hole), "corrupt JPEG"));
#endif
}

TEST_CASE("paths that are no files") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS(decode_image(folder / "absent.jpg"), Error);
  CHECK_THROWS_AS(decode_image(folder.path.string()), Error);
  write_file(folder / "text.jpg", "not a photo");
  CHECK_THROWS_WITH_AS(
      decode_image(folder / "text.jpg"),
      (folder / "text.jpg: not a photo that can be read (" + readable_formats() + ")").c_str(), Error);
}

}  // namespace qfm
