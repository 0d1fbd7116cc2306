// qfm explain, as its users run it.
#include <doctest/doctest.h>

#include "tests/tools/run_qfm.h"
#include "train/image/decode.h"

namespace qfm::test {
namespace {

Outcome explained(std::vector<std::string> words) {
  words.insert(words.begin(), {"explain", bench().b});
  return bench().with_model(words);
}

TEST_CASE("explain draws a map of the photo's size, of each kind, and tells its regions") {
  const std::string map = bench().folder / "map.png";
  std::vector<std::vector<uint8_t>> drawn;
  for (const std::string kind : {"windows", "gradient", "attention"}) {
    CAPTURE(kind);
    const Outcome outcome = explained({"-o", map, "--kind", kind, "--json"});
    CHECK(outcome.code == 0);
    const Image image = decode_image(map);
    CHECK(image.width == 500);
    CHECK(image.height == 240);
    drawn.push_back(image.rgb);
    REQUIRE(outcome.json().size() == 1);
    const auto told = outcome.json()[0];
    CHECK(told["path"] == bench().b);
    CHECK(told["kind"] == kind);
    CHECK(told["score"] == bench().with_model({"score", bench().b, "--json"}).json()[0]["score"]);
    REQUIRE(!told["regions"].empty());
    for (const auto& region : told["regions"]) {
      CHECK(region["x"] >= 0);
      CHECK(region["x"].get<int>() + region["width"].get<int>() <= 500);
      CHECK(region["y"].get<int>() + region["height"].get<int>() <= 240);
    }
  }
  CHECK(drawn[0] != drawn[1]);
  CHECK(drawn[1] != drawn[2]);
}

TEST_CASE("explain refuses what it cannot do, each in one line") {
  const auto refused = [](const Outcome& outcome, int code, const std::string& part) {
    CAPTURE(outcome.err);
    CHECK(outcome.code == code);
    CHECK(outcome.talk().size() == 1);
    CHECK(outcome.err.find(part) != std::string::npos);
  };
  refused(explained({}), 2, "-o MAP.png is required");
  refused(explained({"-o", "map.jpg"}), 2, ".png");
  refused(explained({"--json", "--kind", "depth"}), 2, "depth");
  refused(explained({"--json", "--kind", "gradient", "--dtype", "int8"}), 2, "none in INT8");
  refused(bench().with_model({"explain", bench().bad, "--json"}), 1, "bad.jpg: ");
}

}  // namespace
}  // namespace qfm::test
