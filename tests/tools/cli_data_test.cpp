// qfm data, and splits in train and eval, as a user sees them.
#include <filesystem>

#include "engine/base/sha256.h"
#include "tests/tools/run_qfm.h"
#include "tests/train/data/datasets.h"

namespace qfm::test {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// Ten photos without references and their manifest.
std::string ten_photos(const TemporaryFolder& folder) {
  std::string table = "image,score\n";
  for (int i = 0; i < 10; ++i) {
    Image image(240 + i, 230);
    for (size_t k = 0; k < image.rgb.size(); ++k)
      image.rgb[k] = static_cast<uint8_t>(k * static_cast<size_t>(i + 3) / 7);
    const std::string name = "p" + std::to_string(i) + ".png";
    write_image(folder / name, image);
    table += name + "," + std::to_string(i * 10) + "\n";
  }
  write_file(folder / "t.csv", table);
  return folder / "t.csv";
}

TEST_CASE("data check: the report, its file, and the exit code") {
  const TemporaryFolder folder;
  const std::string table = ten_photos(folder), report = folder / "r.json";
  const auto well = bench().run({"data", "check", table, "-o", report, "--quiet"});
  CAPTURE(well.out);
  CHECK(well.code == 0);
  CHECK(well.err.empty());
  for (const char* line : {"ok     photos      10\n", "ok     files       10 files, all can be decoded\n",
                           "ok     duplicates  no two files have the same content\n"})
    CHECK(contains(well.out, line));
  auto json = nlohmann::json::parse(content(report));
  CHECK(json["healthy"] == true);
  CHECK(json["findings"].size() == 9);
  write_file(folder / "p3.png", "no photo");
  fs::remove(folder.path / "p4.png");
  const auto ill = bench().run({"data", "check", table, "--json", "--quiet"});
  CHECK(ill.code == 1);
  json = ill.json().at(0);
  CHECK(json["healthy"] == false);
  for (const auto& finding : json["findings"])
    if (finding["about"] == "files") CHECK(finding["items"].size() == 2);
  check_refused(bench().run({"data", "check", "livec:" + fixture("broken/livec_lying_size"), "--quiet"}), 1,
                "livec_lying_size");
  check_refused(bench().run({"data", "check", "koniq:x"}), 2, "did you mean 'koniq10k'?");
  check_refused(bench().run({"data", "check", table, "-o", "r.html"}), 2, ".json");
  check_refused(bench().run({"data"}), 2, "a command is needed");
}

TEST_CASE("data list brings any layout to a manifest that reads back the same") {
  const TemporaryFolder folder;
  for (const char* name : {"tid2013", "kadid10k", "flive", "koniq10k"}) {
    const std::string data = std::string(name) + ":" + fixture(name), table = folder / "list.csv";
    const auto listed = bench().run({"data", "list", data, "-o", table});
    CHECK(listed.code == 0);
    CHECK(contains(listed.err, "--scale "));
    const Dataset set = load_dataset(data), again = load_dataset(table, {.root = fixture(name)});
    REQUIRE(again.samples.size() == set.samples.size());
    for (size_t i = 0; i < set.samples.size(); ++i) {
      CHECK(again.samples[i].path == set.samples[i].path);
      CHECK(again.samples[i].score == set.samples[i].score);
      CHECK(again.samples[i].std == set.samples[i].std);
      CHECK(again.samples[i].reference == set.samples[i].reference);
    }
    CHECK(bench().run({"data", "list", data, "--quiet"}).out == content(table));
  }
  check_refused(bench().run({"data", "list", "kadid10k:" + fixture("tid2013")}), 1, "--data tid2013:");
}

TEST_CASE("data split: train learns from one part, eval measures on the other, both print its hash") {
  const TemporaryFolder folder;
  const std::string table = ten_photos(folder), split = folder / "s.txt", out = folder / "run";
  const auto drawn = bench().run({"data", "split", table, "--test", "0.4", "--seed", "2", "-o", split});
  CHECK(drawn.code == 0);
  const std::string hash = sha256_of_file(split);
  CHECK(contains(drawn.err, hash));
  CHECK(bench().run({"data", "split", table, "--test", "0.4", "--seed", "2", "--quiet"}).out ==
        content(split));
  CHECK(bench().run({"data", "split", table, "--test", "0.4", "--seed", "3", "--quiet"}).out !=
        content(split));
  check_refused(bench().run({"data", "split", table, "--test", "1"}), 2, "--test");
  check_refused(bench().run({"data", "split", table, "--test", "0.1"}), 1, "parts of 9 and 1 photos");

  const Words train{
      "train",       "--data",  table, "--split",  split, "--scale",    "0:100", "--init",
      bench().model, "--out",   out,   "--epochs", "1",   "--warmup",   "0",     "--crops-per-image",
      "1",           "--batch", "2",   "--device", "cpu", "--protocol", "paper"};
  const auto trained = bench().run(train);
  CAPTURE(trained.err);
  CHECK(trained.code == 0);
  CHECK(contains(trained.out, hash));
  const auto info = bench().run({"model", "info", "--json", out + "/last.safetensors"}).json().at(0);
  CHECK(contains(info["training_set"], hash));
  const auto log = lines_of(content(out + "/log.jsonl"));
  CHECK(log.size() == 5);  // what it runs on, 6 photos in batches of 2, and the epoch
  CHECK(nlohmann::json::parse(log.front())["dtype"] == "f32");
  CHECK(contains(content(out + "/config.json"), "\"dtype\": \"f32\""));  // not auto
  CHECK(nlohmann::json::parse(log.back())["val"]["photos"] == 4);
  CHECK(nlohmann::json::parse(log.back())["split_sha256"] == hash);

  const Words eval{"eval", "--data", table, "--split", split, "--scale", "0:100"};
  const auto text = bench().with_model(eval);
  CHECK(contains(text.out, "split        test part, SHA-256 " + hash));
  Words json = eval;
  json.push_back("--json");
  const auto metrics = bench().with_model(json).json().at(0);
  CHECK(metrics["n"] == 4);
  CHECK(metrics["split_sha256"] == hash);

  // A run does not go on with another split in the same file.
  write_file(split, bench().run({"data", "split", table, "--test", "0.4", "--seed", "3", "--quiet"}).out);
  Words resumed = train;
  resumed.push_back("--resume");
  check_refused(bench().run(resumed), 1, "other photos or labels than the run began with");
  write_file(split, "train p1.png\n");
  check_refused(bench().with_model(eval), 1, "no line for p0.png");
}

TEST_CASE("constant predictions have no correlation, and fewer than three photos are no set") {
  const TemporaryFolder folder;
  std::string table = "image,score\n";
  for (int i = 0; i < 5; ++i) {
    const std::string name = std::to_string(i) + ".png";
    fs::copy(bench().a, folder.path / name);
    table += name + "," + std::to_string(i) + "\n";
  }
  write_file(folder / "t.csv", table);
  const Words eval{"eval", "--data", folder / "t.csv", "--scale", "0:4"};
  const auto text = bench().with_model(eval);
  CHECK(text.code == 0);
  for (const char* name : {"SRCC         undefined", "PLCC         undefined", "KRCC         undefined"})
    CHECK(contains(text.out, name));
  Words json = eval;
  json.push_back("--json");
  const auto metrics = bench().with_model(json).json().at(0);
  for (const char* key : {"srcc", "plcc", "krcc", "plcc_mapped"}) CHECK(metrics[key].is_null());
  write_file(folder / "t.csv", "image,score\n1.png,1\n2.png,2\n");
  check_refused(bench().with_model(eval), 1, "2 photos, at least 3 are needed");
}

}  // namespace
}  // namespace qfm::test
