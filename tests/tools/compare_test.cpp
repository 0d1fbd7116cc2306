// qfm compare, as its users run it. The figures are held against others' in tests/train/full_reference.
#include <doctest/doctest.h>

#include "tests/tools/run_qfm.h"
#include "train/image/decode.h"
#include "train/image/distort.h"

namespace qfm::test {
namespace {

namespace fs = std::filesystem;

const std::string kReference = golden_path("full_reference_a.png");

Outcome compared(std::vector<std::string> words) {
  words.insert(words.begin(), "compare");
  return bench().run(words);
}

// A folder of originals and one of distorted photos: a.png and sub/b.png have partners (b.jpg, but for the extension),
// lone.png and extra.png have none, c.png is damaged, d.png is of another size.
struct PairFolders {
  TemporaryFolder folder;
  const std::string originals = folder / "originals", distorted = folder / "distorted";
  PairFolders() {
    const Image photo = decode_image(kReference), blurred = gaussian_blur(photo, 2);
    for (const auto& place : {originals, distorted}) fs::create_directories(place + "/sub");
    for (const char* name : {"/a.png", "/c.png", "/d.png", "/lone.png", "/sub/b.png"})
      write_image(originals + name, photo);
    write_image(distorted + "/a.png", blurred);
    write_image(distorted + "/sub/b.jpg", blurred);
    write_image(distorted + "/d.png", Image(40, 30));
    write_image(distorted + "/extra.png", photo);
    write_file(distorted + "/c.png", "\x89PNG\r\n\x1a\n this is no photo");
  }
};

TEST_CASE("compare tells how far photos are from their original") {
  TemporaryFolder folder;
  write_image(folder / "blurred.png", gaussian_blur(decode_image(kReference), 1.2));
  const Outcome text = compared({kReference, kReference, folder / "blurred.png", "--quiet"});
  CHECK(text.code == 0);
  CHECK(text.err.empty());
  REQUIRE(text.lines().size() == 2);
  CHECK(text.lines()[0] == "inf  1.0000  1.0000  0.0000  1.0000  " + kReference);
  const auto lines = compared({kReference, kReference, folder / "blurred.png", "--json"}).json();
  REQUIRE(lines.size() == 2);
  const nlohmann::json same = {{"reference", kReference},
                               {"path", kReference},
                               {"psnr", nullptr},
                               {"ssim", 1},
                               {"ms_ssim", 1},
                               {"gmsd", 0},
                               {"vif", 1}};
  CHECK(lines[0] == same);
  CHECK(lines[1].size() == 7);
  CHECK(lines[1]["psnr"] > 20);
  CHECK(lines[1]["ssim"] < 0.95);
  CHECK(lines[1]["gmsd"] > 0.01);
  CHECK(lines[1]["vif"] < 0.9);
  // One thread or two, one pair or several: the same figures.
  const auto alone = compared({kReference, folder / "blurred.png", "--json", "--threads", "2"}).json();
  REQUIRE(alone.size() == 1);
  CHECK(alone[0] == lines[1]);
}

TEST_CASE("compare matches two folders by name, names what has no partner, and goes on") {
  const PairFolders folders;
  const std::string file = folders.folder / "all.json", table = folders.folder / "all.csv";
  const Outcome outcome = compared({folders.originals, folders.distorted, "-r", "--json", "-o", file});
  CHECK(outcome.code == 1);
  const auto lines = outcome.json();
  REQUIRE(lines.size() == 6);
  const auto expect = [&](size_t i, const std::string& reference, const std::string& path,
                          const std::string& error) {
    CAPTURE(lines[i].dump());
    CHECK(lines[i]["reference"] ==
          (reference.empty() ? nlohmann::json() : nlohmann::json(folders.originals + reference)));
    CHECK(lines[i]["path"] == (path.empty() ? nlohmann::json() : nlohmann::json(folders.distorted + path)));
    if (error.empty()) CHECK(lines[i]["ssim"].is_number());
    else CHECK(contains(lines[i]["error"], error));
  };
  expect(0, "/a.png", "/a.png", "");
  expect(1, "/c.png", "/c.png", "PNG");
  expect(2, "/d.png", "/d.png", "is 40 x 30, the reference 200 x 177");
  expect(3, "/sub/b.png", "/sub/b.jpg", "");
  expect(4, "", "/extra.png", "no photo of this name in " + folders.originals);
  expect(5, "/lone.png", "", "no photo of this name in " + folders.distorted);
  CHECK(outcome.talk().size() == 5);  // four errors and the count
  CHECK(contains(outcome.err, "2 pairs compared, 4 failed"));
  const auto written = nlohmann::json::parse(content(file));
  CHECK(written["results"] == nlohmann::json(lines));
  CHECK(written["header"]["tool"] == "qfm");
  CHECK(compared({folders.originals, folders.distorted, "-o", table, "--quiet"}).out.empty());
  const std::string csv = content(table);
  CHECK(contains(csv, "reference,path,psnr,ssim,ms_ssim,gmsd,vif,error\n"));
  CHECK(contains(csv, folders.originals + "/lone.png,,,,,,,no photo of this name in"));
}

TEST_CASE("compare draws where a pair differs") {
  TemporaryFolder folder;
  Image damaged = decode_image(kReference);
  for (int y = 40; y < 80; ++y) std::fill_n(damaged.row(y) + 3 * 100, 3 * 40, uint8_t{0});
  write_image(folder / "damaged.png", damaged);
  CHECK(compared({kReference, folder / "damaged.png", "--map", folder / "map.png", "--quiet"}).code == 0);
  const Image map = decode_image(folder / "map.png");
  REQUIRE(map.width == 200);
  REQUIRE(map.height == 177);
  const auto yellow = [&](int x, int y) { return map.row(y)[3 * x] - map.row(y)[3 * x + 2]; };
  CHECK(yellow(120, 60) > 40);
  CHECK(yellow(20, 60) < -20);
}

TEST_CASE("compare refuses what it cannot do, in one line") {
  TemporaryFolder folder;
  write_image(folder / "small.png", Image(20, 20));
  check_refused(compared({kReference, kReference, kReference, "--map", folder / "map.png"}), 2,
                "--map is for one pair");
  check_refused(compared({kReference, kReference, "--map", folder / "map.jpg"}), 2, ".png");
  check_refused(compared({kReference, kReference, "-o", folder / "all.html"}), 2, ".json .jsonl .csv");
  check_refused(compared({folder.path.string(), kReference}), 2, "is no folder");
  check_refused(compared({kReference, kReference, "--learned"}), 2, "unknown flag '--learned'");
  check_refused(compared({bench().bad, kReference, kReference}), 1, "bad.jpg: ");
  check_refused(compared({bench().bad, kReference, "--quiet"}), 1, "bad.jpg: ");
  const Outcome small = compared({folder / "small.png", folder / "small.png", "--json", "--quiet"});
  CHECK(small.code == 0);
  CHECK(small.json()[0]["ms_ssim"] == 1);
}

}  // namespace
}  // namespace qfm::test
