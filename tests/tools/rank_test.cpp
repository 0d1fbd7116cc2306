// qfm rank, as its users run it, and how it groups photos.
#include <doctest/doctest.h>

#include "tests/tools/run_qfm.h"
#include "tools/cli/photo_groups.h"

namespace qfm::test {
namespace {

using Words = std::vector<std::string>;

// Two scenes, the first once more, shifted by `shift` columns.
Image scene(int kind, int shift = 0) {
  Image image(240, 230);
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < 3 * image.width; ++x) {
      const int u = x / 3 + shift, v = y;
      image.row(y)[x] = static_cast<uint8_t>(kind == 0 ? (u / 30 * 37 + v / 30 * 91) % 200
                                                       : (u / 24 * 53 + v / 20 * 29) % 256);
    }
  return image;
}

TEST_CASE("photos of one burst are near duplicates, or look alike and were taken within ten seconds") {
  const auto glance = [](const Image& image, std::optional<int64_t> taken) {
    return PhotoGlance{"x.jpg", perceptual_hash(image), taken};
  };
  const Image first = scene(0), moved = scene(0, 8), other = scene(1);
  REQUIRE(!near_duplicate(perceptual_hash(first), perceptual_hash(moved)));
  using Groups = std::vector<size_t>;
  const auto groups = [](const std::vector<PhotoGlance>& photos) {
    return group_photos(Grouping::Burst, photos);
  };
  CHECK(groups({}) == Groups{});
  CHECK(groups({glance(first, {}), glance(other, {}), glance(first, {})}) == Groups{0, 1, 0});
  CHECK(groups({glance(first, 100), glance(moved, 110)}) == Groups{0, 0});
  CHECK(groups({glance(first, 100), glance(moved, 111)}) == Groups{0, 1});
  CHECK(groups({glance(first, 100), glance(moved, {})}) == Groups{0, 1});
  CHECK(groups({glance(first, 100), glance(other, 100)}) == Groups{0, 1});
  // A chain: the third is near the second alone.
  CHECK(groups({glance(first, 100), glance(other, 5), glance(moved, 109), glance(moved, 300)}) ==
        Groups{0, 1, 0, 0});
  const std::vector<PhotoGlance> named{{.path = "a/1"}, {.path = "b"}, {.path = "a/b/2"}, {.path = "a/3"}};
  CHECK(group_photos(Grouping::Folder, named) == Groups{0, 1, 2, 0});
  CHECK(group_photos(Grouping::None, named) == Groups{0, 0, 0, 0});
}

struct Album {
  TemporaryFolder folder;
  const std::string bad = folder / "c_bad.jpg";
  Album() {
    write_image(folder / "a_first.png", scene(0));
    write_image(folder / "b_other.png", scene(1));
    write_image(folder / "d_again.jpg", scene(0));
    write_file(bad, "\xff\xd8\xff\xe0 this is no photo");
  }
};

TEST_CASE("rank orders the photos of each group, best first, and goes on after one that cannot be read") {
  const Album album;
  const Outcome scored = bench().with_model({"score", album.folder.path.string(), "--json", "--quiet"});
  const Outcome burst =
      bench().with_model({"rank", album.folder.path.string(), "--group", "burst", "--json"});
  CHECK(burst.code == 1);
  CHECK(burst.err.find("c_bad.jpg: ") != std::string::npos);
  const auto rows = burst.json();
  REQUIRE(rows.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(rows[i]["group"] == (i < 2 ? 1 : 2));
    CHECK(rows[i]["rank"] == (i == 1 ? 2 : 1));
    CHECK(rows[i]["better"].is_null());  // not calibrated: nothing is claimed
    CHECK(rows[i]["tie"] == false);
    CHECK(!rows[i].contains("low"));
    for (const auto& one : scored.json())
      if (one["path"] == rows[i]["path"]) CHECK(one["score"] == rows[i]["score"]);
  }
  CHECK(rows[0]["score"] >= rows[1]["score"]);
  CHECK(rows[2]["path"] == album.folder / "b_other.png");
  const Outcome best = bench().with_model({"rank", album.folder.path.string(), "--best", "1", "--quiet"});
  REQUIRE(best.lines().size() == 1);
  CHECK(best.out.starts_with("1  1  "));
}

// An EXIF block with DateTimeOriginal, behind the first two bytes of a JPEG.
std::string taken_at(const std::string& jpeg, const std::string& time) {
  const auto number = [](uint32_t value, int bytes) {
    std::string text;
    for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> 8 * i & 255);
    return text;
  };
  const std::string tiff = "MM" + number(42, 2) + number(8, 4) + number(1, 2) + number(0x8769, 2) + number(4, 2) +
                           number(1, 4) + number(26, 4) + number(0, 4) + number(1, 2) + number(0x9003, 2) +
                           number(2, 2) + number(static_cast<uint32_t>(time.size()) + 1, 4) + number(44, 4) +
                           number(0, 4) + time + '\0';
  const std::string block = std::string("Exif\0\0", 6) + tiff;
  return jpeg.substr(0, 2) + "\xff\xe1" + number(static_cast<uint32_t>(block.size()) + 2, 2) + block + jpeg.substr(2);
}

TEST_CASE("photos taken within ten seconds that look alike are one burst") {
  const TemporaryFolder folder;
  write_image(folder / "x.jpg", scene(0));
  write_image(folder / "y.jpg", scene(0, 8));
  const std::string x = content(folder / "x.jpg"), y = content(folder / "y.jpg");
  const auto groups = [&](const std::string& first, const std::string& second) {
    write_file(folder / "x.jpg", taken_at(x, first)), write_file(folder / "y.jpg", taken_at(y, second));
    const Outcome outcome = bench().with_model({"rank", folder.path.string(), "--group", "burst", "--json", "--quiet"});
    CHECK(outcome.code == 0);
    return outcome.json().back()["group"].get<int>();
  };
  CHECK(groups("2024:02:29 23:59:55", "2024:03:01 00:00:05") == 1);
  CHECK(groups("2024:02:29 23:59:55", "2024:03:01 00:00:06") == 2);
  CHECK(groups("2024:02:29 23:59:55", "2023:02:29 23:59:55") == 2);  // no such day
  CHECK(groups("    :  :     :  :  ", "    :  :     :  :  ") == 2);
  CHECK(groups("2024:02:29", "2024:02:29") == 2);
}

TEST_CASE("rank of a calibrated model says which neighbours are too close to call") {
  const Album album;
  const auto rank = [&](Words words) {
    words.insert(words.begin(), {"rank", album.folder / "a_first.png", album.folder / "b_other.png",
                                 "--model", bench().calibrated_model, "--device", "cpu", "--quiet"});
    return bench().run(words);
  };
  const auto rows = rank({"--json"}).json();
  REQUIRE(rows.size() == 2);
  const double better = rows[0]["better"];
  CHECK(better >= 0.5);
  CHECK(rows[1]["better"].is_null());
  CHECK(rows[0]["tie"] == false);
  CHECK(rows[0]["low"] <= rows[0]["score"]);
  const std::string above = std::to_string(better + 0.01),
                    below = std::to_string(std::max(0.5, better - 0.01));
  CHECK(rank({"--json", "--sure", above}).json()[1]["tie"] == true);
  CHECK(rank({"--json", "--sure", below}).json()[1]["tie"] == false);
  const auto lines = rank({"--sure", above}).lines();
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].find("]  /") != std::string::npos);
  CHECK(lines[1].find("]  ~ /") != std::string::npos);
  CHECK(rank({"--sure", "0.3"}).code == 2);
  CHECK(rank({"--group", "time"}).code == 2);
  CHECK(rank({"-o", "ranking.txt"}).code == 2);
}

TEST_CASE("rank writes JSON, CSV and a page that holds all it shows") {
  const Album album;
  const auto file = [&](const char* name) {
    const std::string path = album.folder / name;
    CHECK(bench()
              .run({"rank", album.folder / "a_first.png", album.folder / "b_other.png", "--model",
                    bench().calibrated_model, "--device", "cpu", "-o", path})
              .out.empty());
    return content(path);
  };
  const auto json = nlohmann::json::parse(file("r.json"));
  CHECK(json["header"]["tool"] == "qfm");
  CHECK(json["results"].size() == 2);
  CHECK(lines_of(file("r.jsonl")).size() == 2);
  const std::string csv = file("r.csv"), page = file("r.html");
  CHECK(csv.find("\ngroup,rank,path,score,low,high,better,tie\n1,1,") != std::string::npos);
  size_t thumbnails = 0;
  for (size_t at = page.find("data:image/jpeg;base64,/9j/"); at != std::string::npos;
       at = page.find("data:image/jpeg;base64,/9j/", at + 1))
    ++thumbnails;
  CHECK(thumbnails == 2);
  for (const char* outside : {"src=\"http", "href=\"http", "url("})
    CHECK(page.find(outside) == std::string::npos);
}

}  // namespace
}  // namespace qfm::test
