// The eight sets in their own layouts, pyiqa's tables and manifests: every fixture as expected.json and
// broken.json say, other sets' layouts, splits.
#include "tests/train/data/datasets.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/base/io.h"
#include "engine/base/rng.h"
#include "engine/base/sha256.h"
#include "train/data/split.h"

using namespace qfm;
using nlohmann::json;
using test::contains, test::message_of, test::fixture;

namespace {

json fixture_json(const std::string& name) {
  std::ifstream file(fixture(name));
  REQUIRE(file);
  return json::parse(file);
}

// How a fixture is asked for: NAME:FOLDER, or its table and, for pyiqa, the folder of its images.
Dataset load_entry(const json& set) {
  const std::string format = set["format"], root = fixture(set["root"]);
  if (format == "manifest") return load_dataset(fixture(set["labels"]));
  if (format == "pyiqa") return load_dataset(fixture(set["labels"]), {.root = root});
  return load_dataset(format + ":" + root);
}

std::string broken_data(const json& broken) {
  const std::string format = broken["format"], root = fixture(broken["root"]);
  if (format == "manifest") return root + "/manifest.csv";
  if (format == "pyiqa") return root + "/meta_info_XDataset.csv";
  return format + ":" + root;
}

}  // namespace

TEST_CASE("every fixture is read as expected.json says") {
  const json expected = fixture_json("expected.json");
  CHECK(expected["sets"].size() == 19);
  for (const auto& set : expected["sets"]) {
    const std::string id = set["id"];
    CAPTURE(id);
    if (!test::can_read(set["format"], id)) QFM_SKIP("built without the reader of " << id);
    const Dataset data = load_entry(set);
    CHECK(data.higher_is_better == set["higher_is_better"].get<bool>());
    REQUIRE(data.samples.size() == set["count"].get<size_t>());
    for (size_t i = 0; i < data.samples.size(); ++i) {
      const Sample& sample = data.samples[i];
      const json& item = set["items"][i];
      const auto text = [&](const char* key) {
        return item.contains(key) && !item[key].is_null() ? item[key].get<std::string>() : std::string();
      };
      CHECK(sample.name == item["path"].get<std::string>());
      CHECK(std::filesystem::is_regular_file(sample.path));
      CHECK(sample.score == item["score"].get<double>());
      CHECK(sample.std.has_value() == !item["std"].is_null());
      if (sample.std) CHECK(*sample.std == item["std"].get<double>());
      CHECK(sample.reference == text("reference"));
      CHECK(sample.split == text("split"));
    }
  }
}

TEST_CASE("every broken fixture is refused as broken.json says") {
  const json expected = fixture_json("broken/broken.json");
  CHECK(expected["cases"].size() == 26);
  for (const auto& broken : expected["cases"]) {
    const std::string id = broken["id"], root = fixture(broken["root"]);
    CAPTURE(id);
    if (!test::can_read(broken["format"], id)) QFM_SKIP("built without the reader of " << id);
    const auto message = message_of([&] { load_dataset(broken_data(broken)); });
    CAPTURE(message);
    CHECK(message.starts_with(root));
    for (const auto& part : broken["message_should_name"]) CHECK(contains(message, part.get<std::string>()));
    if (broken.contains("row")) CHECK(contains(message, "row " + std::to_string(broken["row"].get<int>())));
    if (broken["expect"] == "report") CHECK(contains(message, "(1 bad row of "));
  }
}

TEST_CASE("rows that a table is refused for can be had instead") {
  const auto golden = fixture_json("broken/broken.json");
  for (const auto& broken : golden["cases"]) {
    if (broken["expect"] != "report") continue;
    CAPTURE(broken["id"].get<std::string>());
    std::vector<RowProblem> problems;
    load_dataset(broken_data(broken), {.problems = &problems});
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].row == broken["row"].get<int64_t>());
    CHECK(problems[0].missing_file == contains(broken["id"], "missing_file"));
  }
}

TEST_CASE("the layout of another set is recognised, and what to type is said") {
  const auto says = [](const std::string& data, const std::string& hint) {
    const auto message = message_of([&] { load_dataset(data); });
    CAPTURE(message);
    CHECK(contains(message, "--data " + hint));
  };
  for (const char* name :
       {"kadid10k", "koniq10k", "flive", "tid2013", "live", "livec", "spaq", "csiq_flat"}) {
    const std::string set = name == std::string("csiq_flat") ? "csiq" : name, folder = fixture(name);
    const std::string other = set == "kadid10k" ? "koniq10k" : "kadid10k";
    says(other + ":" + folder, set + ":" + folder);
    says(folder, set + ":" + folder);  // the name forgotten
  }
  says("koniq10k:" + fixture("kadid10k/images"), "kadid10k:" + fixture("kadid10k"));  // one folder too deep
  says(fixture("koniq10k/koniq10k_scores_and_distributions.csv"), "koniq10k:" + fixture("koniq10k"));
  const test::TemporaryFolder above;
  std::filesystem::copy(fixture("flive"), above.path / "inside", std::filesystem::copy_options::recursive);
  says("flive:" + above.path.string(), "flive:" + above / "inside");  // one not deep enough
  says("spaq:" + fixture("pyiqa"), fixture("pyiqa/meta_info_SPAQDataset.csv") + " --root IMAGES");
  CHECK(contains(message_of([&] { load_dataset("spaq:" + above / "nowhere"); }), "nowhere: no such folder"));
  CHECK(contains(message_of([] { load_dataset("koniq:/data/x"); }), "did you mean 'koniq10k'?"));
  CHECK(contains(message_of([] { load_dataset("tid2031:/data/x"); }), "did you mean 'tid2013'?"));
}

TEST_CASE("CSIQ's list is read beside the authors' folders too") {
  const test::TemporaryFolder folder;
  const auto official = std::filesystem::path(fixture("csiq_official/dst_imgs"));
  std::filesystem::copy(official, folder.path / "dst_imgs", std::filesystem::copy_options::recursive);
  std::string list;
  std::set<std::string> photos;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(official))
    if (entry.is_regular_file()) {
      photos.insert("dst_imgs/" + entry.path().lexically_relative(official).string());
      list += concat(entry.path().filename().string(), " 0.", 100 + photos.size(), "\n");
    }
  std::ofstream(folder / "csiq_label.txt") << list;
  std::set<std::string> read;
  for (const auto& sample : load_dataset("csiq:" + folder.path.string()).samples) read.insert(sample.name);
  CHECK(photos.size() > 10);
  CHECK(read == photos);
}

TEST_CASE("what a set is known for cannot be said otherwise") {
  const std::string data = "kadid10k:" + fixture("kadid10k");
  CHECK(contains(message_of([&] { load_dataset(data, {.lower_is_better = true}); }), "higher for better"));
  CHECK(contains(message_of([&] { load_dataset(data, {.fold = "a=b"}); }), "--fold"));
  CHECK(contains(message_of([&] { load_dataset(data, {.root = "/x"}); }), "--root"));
  const Dataset set = load_dataset(data), wider = load_dataset(data, {.scale = Range{0, 10}});
  CHECK(set.range.low == 1);
  CHECK(set.range.high == 4.93);
  CHECK_FALSE(set.range_observed);
  CHECK(wider.range.high == 10);
  CHECK(contains(message_of([&] { load_dataset(data, {.scale = Range{0, 4}}); }), "outside the label range"));
}

TEST_CASE("real tables of pyiqa") {
  const struct {
    const char* set;
    size_t rows;
    bool higher;
  } tables[] = {{"CSIQ", 866, false},    {"KADID10k", 10125, true}, {"KonIQ10k", 199, true},
                {"LIVEIQA", 779, false}, {"LIVEMD", 450, false},    {"SPAQ", 199, true},
                {"TID2008", 1700, true}, {"TID2013", 3000, true}};
  for (const auto& table : tables) {
    const std::string name = std::string("meta_info_") + table.set + "Dataset.csv";
    const auto path = test::shared_path("data/label_formats/" + name);
    if (path.empty()) QFM_SKIP("no data/label_formats");
    CAPTURE(name);
    std::vector<RowProblem> problems;  // none of the images is here
    const Dataset set = load_dataset(path, {.problems = &problems});
    CHECK(set.higher_is_better == table.higher);
    CHECK(set.samples.size() + problems.size() == table.rows);
    for (const auto& problem : problems) CHECK(problem.missing_file);
  }
}

TEST_CASE("damaged label files are read or refused, never worse") {
  const test::TemporaryFolder folder;
  Rng rng(12, "damage");
  int read = 0, refused = 0;
  for (const char* name : {"live", "livec", "spaq", "csiq_official", "tid2013"}) {
    const std::string set = name == std::string("csiq_official") ? "csiq" : name;
    if (!test::can_read(set, name)) continue;
    const auto copy = folder.path / name;
    std::filesystem::copy(fixture(name), copy, std::filesystem::copy_options::recursive);
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(copy))
      if (entry.path().extension() == ".mat" || entry.path().extension() == ".xlsx" ||
          entry.path().extension() == ".txt")
        files.push_back(entry.path().string());
    std::sort(files.begin(), files.end());
    for (int trial = 0; trial < (test::kSanitized ? 100 : 300); ++trial) {
      const std::string path = files[rng.below(static_cast<uint32_t>(files.size()))];
      const auto whole = read_file(path);
      std::string bytes(whole.begin(), whole.end());
      if (rng.below(4) == 0) bytes.resize(rng.below(static_cast<uint32_t>(bytes.size())));
      for (uint32_t edits = rng.below(6); edits > 0 && !bytes.empty(); --edits)
        bytes[rng.below(static_cast<uint32_t>(bytes.size()))] = static_cast<char>(rng.below(256));
      std::ofstream(path, std::ios::binary) << bytes;
      const auto message = message_of([&] {
        load_dataset(set + ":" + copy.string());
        ++read;
      });
      refused += !message.empty();
      std::ofstream(path, std::ios::binary)
          .write(reinterpret_cast<const char*>(whole.data()), static_cast<std::streamsize>(whole.size()));
    }
  }
  MESSAGE("damaged label files: " << read << " read, " << refused << " refused");
}

TEST_CASE("splits: plain text, disjoint in references, of one set, named by their hash") {
  const Dataset set = load_dataset("tid2013:" + fixture("tid2013"));
  const std::string text = split_text(set, 0.34, 3);
  CHECK(text == split_text(set, 0.34, 3));
  CHECK(text.starts_with("# qfm split: tid2013, 8 photos, "));
  CHECK(contains(text, "seed 3, test 0.34, by 3 references"));
  const test::TemporaryFolder folder;
  const std::string path = folder / "s.txt";
  write_file(path, text);
  const auto part = [&](const std::string& name) {
    return load_dataset("tid2013:" + fixture("tid2013"), {.split = path, .part = name, .problems = nullptr});
  };
  const std::vector<unsigned char> bytes(text.begin(), text.end());
  std::vector<RowProblem> none;
  const Dataset all = load_dataset("tid2013:" + fixture("tid2013"), {.split = path, .problems = &none});
  CHECK(all.split_sha256 == sha256(bytes));
  const Dataset train = part_of(all, "train"), test = part_of(all, "test");
  CHECK(train.samples.size() + test.samples.size() == 8);
  for (const auto& a : train.samples)
    for (const auto& b : test.samples) CHECK(a.reference != b.reference);
  CHECK(part("train").samples.size() == train.samples.size());
  CHECK(contains(message_of([&] { part("val"); }), "no photo to part val"));

  const auto refused = [&](const std::string& content) {
    write_file(path, content);
    return message_of([&] { load_dataset("tid2013:" + fixture("tid2013"), {.split = path}); });
  };
  CHECK(contains(refused("# nothing\n"), "not a split"));
  CHECK(contains(refused("learn a.png\n"), "line 1: 'learn a.png' starts with none of train, val, test"));
  CHECK(contains(refused("train\n"), "line 1: no photo after train"));
  CHECK(contains(refused("train a\ntest a\n"), "line 2: a has a line already"));
  CHECK(contains(refused("train a\n"), "no line for distorted_images/i01_01_1.bmp"));
  CHECK(contains(refused(text + "test other.png\n"), "other.png is not in"));
}
