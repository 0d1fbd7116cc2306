// Checks of data sets: made-up sets of full size pass, and every fault is found.
#include "train/data/dataset_check.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "engine/base/io.h"
#include "engine/base/rng.h"
#include "engine/base/sha256.h"
#include "tests/train/data/dataset_writers.h"
#include "tests/train/data/datasets.h"
#include "train/data/csv.h"
#include "train/image/near_duplicate.h"
#include "train/image/distort.h"
#include "train/image/encode.h"

using namespace qfm;
using test::contains, test::MatWriter, test::TemporaryFolder, test::write_bytes, test::write_tiny_photo;
using Verdict = Finding::Verdict;

namespace {

namespace fs = std::filesystem;

// A set of the published size: photo i of n gets a label on a ramp over the published range, or by its level
// of distortion (1..5), weak ones best.
struct FullSet {
  const NativeLayout& layout;
  TemporaryFolder folder{test::memory_directory()};
  uint32_t photos = 0;

  explicit FullSet(const NativeLayout& l) : layout(l) {}
  std::string in(const std::string& name) {
    fs::create_directories((folder.path / name).parent_path());
    return folder / name;
  }
  void photo(const std::string& name) { write_tiny_photo(folder / name, ++photos); }
  double ramp(int64_t i, int64_t n) const {
    return layout.range.low +
           (layout.range.high - layout.range.low) * static_cast<double>(i) / static_cast<double>(n - 1);
  }
  double by_level(int level) const { return ramp(layout.higher_is_better ? 5 - level : level - 1, 5); }
};

// name,score and so on, a photo a row.
void make_table(FullSet& set, const std::string& table, const std::string& header,
                const std::string& images) {
  std::string text = header + "\n";
  fs::create_directories(set.folder.path / images);
  for (int64_t i = 0; i < set.layout.photos; ++i) {
    const std::string name = concat(i, ".jpg"), score = number_text(set.ramp(i, set.layout.photos));
    set.photo(images + "/" + name);
    text += set.layout.name == "koniq10k" ? name + ",3," + score + "\n" : name + "," + score + "\n";
  }
  write_bytes(set.in(table), text);
}

std::string two(int n) { return concat(n < 10 ? "0" : "", n); }

void make_kadid(FullSet& set) {
  std::string text = "dist_img,ref_img,dmos,var\n";
  fs::create_directories(set.folder.path / "images");
  for (int reference = 1; reference <= 81; ++reference)
    for (int kind = 1; kind <= 25; ++kind)
      for (int level = 1; level <= 5; ++level) {
        const std::string name = "I" + two(reference) + "_" + two(kind) + "_" + two(level) + ".png";
        set.photo("images/" + name);
        text += name + ",I" + two(reference) + ".png," + number_text(set.by_level(level)) + ",0.5\n";
      }
  write_bytes(set.in("dmos.csv"), text);
}

void make_tid(FullSet& set) {
  std::string text, deviations;
  fs::create_directories(set.folder.path / "distorted_images");
  for (int reference = 1; reference <= 25; ++reference)
    for (int kind = 1; kind <= 24; ++kind)
      for (int level = 1; level <= 5; ++level) {
        const std::string name = two(reference) + "_" + two(kind) + "_" + std::to_string(level) + ".bmp";
        set.photo("distorted_images/" + (kind % 2 ? "i" + name : "I" + name));
        text += number_text(set.by_level(level)) + " i" + name + "\n", deviations += "0.1\n";
      }
  write_bytes(set.in("mos_with_names.txt"), text), write_bytes(set.in("mos_std.txt"), deviations);
}

// As its authors publish it, without the 34 photos that a full grid would have more.
void make_csiq(FullSet& set) {
  std::vector<std::vector<std::string>> rows = {{"image", "dst_type", "dst_lev", "dmos_std", "dmos"}};
  std::string list;
  const char* kinds[6][3] = {{"noise", "awgn", "AWGN"},
                             {"blur", "blur", "BLUR"},
                             {"fnoise", "fnoise", "fnoise"},
                             {"jpeg", "jpeg", "JPEG"},
                             {"jpeg 2000", "jpeg2000", "jpeg2000"},
                             {"contrast", "contrast", "contrast"}};
  for (const auto& kind : kinds) {
    fs::create_directories(set.folder.path / "dst_imgs" / kind[1]);
    for (int level = 1; level <= 5; ++level)
      for (int image = 0; image < 30 && set.photos < 866; ++image) {
        const std::string name = std::to_string(1600 + image), score = number_text(set.by_level(level));
        set.photo(concat("dst_imgs/", kind[1], "/", name, ".", kind[2], ".", level, ".png"));
        rows.push_back({name, kind[0], std::to_string(level), "0.1", score});
      }
  }
#ifdef QFM_WITH_XLSX
  test::write_workbook(set.in("csiq.DMOS.xlsx"), "all_by_image", rows, {true, false, true, true, true});
#endif
}

void make_spaq(FullSet& set) {
  std::vector<std::vector<std::string>> rows = {{"Image name", "MOS", "Brightness"}};
  fs::create_directories(set.folder.path / "TestImage");
  for (int64_t i = 0; i < set.layout.photos; ++i) {
    rows.push_back({concat(i, ".jpg"), number_text(set.ramp(i, set.layout.photos)), "50"});
    set.photo("TestImage/" + rows.back()[0]);
  }
#ifdef QFM_WITH_XLSX
  test::write_workbook(set.in("Annotations/MOS and Image attribute scores.xlsx"), "Sheet1", rows,
                       {false, true, true}, "x:");
#endif
}

void make_live(FullSet& set) {
  const std::pair<const char*, int> folders[] = {
      {"jp2k", 227}, {"jpeg", 233}, {"wn", 174}, {"gblur", 174}, {"fastfading", 174}};
  std::vector<double> scores, copies;
  std::vector<std::string> references;
  for (const auto& [name, count] : folders) {
    fs::create_directories(set.folder.path / name);
    for (int i = 1; i <= count; ++i) set.photo(concat(name, "/img", i, ".bmp"));
  }
  for (int i = 0; i < 982; ++i) {
    copies.push_back(i >= 779);
    scores.push_back(i >= 779 ? 0 : set.ramp(i, 779));
    references.push_back(concat("scene", i % 29, ".bmp"));
  }
  MatWriter labels, names;
  labels.numbers("dmos_new", scores), labels.numbers("orgs", copies);
  names.texts("refnames_all", references);
  labels.write(set.in("dmos_realigned.mat")), names.write(set.in("refnames_all.mat"));
}

void make_livec(FullSet& set) {
  std::vector<double> scores(7, 50.0);
  std::vector<std::string> names;
  for (int i = 1; i <= 7; ++i) names.push_back(concat("t", i, ".bmp"));
  fs::create_directories(set.folder.path / "Images");
  for (int64_t i = 0; i < 1162; ++i) {
    names.push_back(concat(i, ".bmp")), scores.push_back(set.ramp(i, 1162));
    set.photo("Images/" + names.back());
  }
  MatWriter images, labels, spread;
  images.texts("AllImages_release", names), labels.numbers("AllMOS_release", scores);
  spread.numbers("AllStdDev_release", scores);
  images.write(set.in("Data/AllImages_release.mat")), labels.write(set.in("Data/AllMOS_release.mat"));
  spread.write(set.in("Data/AllStdDev_release.mat"));
}

// By value: GCC 13 takes a reference that is got from a temporary for one into it.
const Finding& about(const std::vector<Finding>& findings, std::string_view what) {
  const auto found = std::find_if(findings.begin(), findings.end(), [&](auto& f) { return f.about == what; });
  REQUIRE(found != findings.end());
  return *found;
}

// Six photos of noise, each of its own, and their labels.
struct Clinic {
  TemporaryFolder folder;
  std::string table = "image,score,reference,split\n";
  Clinic() {
    for (int i = 0; i < 6; ++i) {
      write_image(folder / name(i), picture(static_cast<uint64_t>(i)));
      row(name(i), i, concat("scene", i), i < 4 ? "train" : "test");
    }
  }
  static std::string name(int i) { return concat(static_cast<char>('a' + i), ".png"); }
  static Image picture(uint64_t seed) {
    Image image(240, 230);
    Rng rng(seed, "picture");
    uint8_t shade[64];
    for (auto& s : shade) s = static_cast<uint8_t>(rng.below(256));
    for (int y = 0; y < image.height; ++y)
      for (int x = 0; x < image.width; ++x)
        for (int c = 0; c < 3; ++c)
          image.row(y)[3 * x + c] = shade[8 * (y * 8 / image.height) + x * 8 / image.width];
    return image;
  }
  void row(const std::string& image, double score, const std::string& reference, const std::string& split) {
    table += image + "," + number_text(score) + "," + reference + "," + split + "\n";
  }
  std::vector<Finding> examined(std::optional<Range> scale = Range{0, 10}) {
    write_bytes(folder / "t.csv", table);
    std::vector<RowProblem> problems;
    const Dataset set = load_dataset(folder / "t.csv", {.scale = scale, .problems = &problems});
    return check_dataset(set, problems, {.workers = 2});
  }
};

}  // namespace

TEST_CASE("a made-up full-size set of each of the eight passes") {
  const std::map<std::string_view, void (*)(FullSet&)> makers = {
      {"live", make_live},
      {"csiq", make_csiq},
      {"tid2013", make_tid},
      {"kadid10k", make_kadid},
      {"livec", make_livec},
      {"koniq10k",
       [](FullSet& s) {
         make_table(s, "koniq10k_scores_and_distributions.csv", "image_name,MOS,MOS_zscore", "512x384");
       }},
      {"flive", [](FullSet& s) { make_table(s, "labels_image.csv", "name,mos", "FLIVE"); }},
      {"spaq", make_spaq}};
  for (const auto& layout : native_layouts()) {
    CAPTURE(layout.name);
    const std::string id = layout.name == "csiq" ? "csiq_official" : std::string(layout.name);
    if (!test::can_read(std::string(layout.name), id))
      QFM_SKIP("built without the reader of " << layout.name);
    FullSet full(layout);
    makers.at(layout.name)(full);
    const Dataset set = load_dataset(concat(layout.name, ":", full.folder.path.string()));
    CHECK(static_cast<int64_t>(set.samples.size()) == layout.photos);
    int64_t done = 0;
    const auto findings = check_dataset(set, {}, {2, [&](int64_t n) { done = n; }});
    CHECK(done == layout.photos);
    CHECK(passed(findings));
    for (const auto& finding : findings) {
      CAPTURE(finding.about);
      CAPTURE(finding.text);
      CHECK(finding.verdict != Verdict::Wrong);
      CHECK(finding.items.empty());
    }
    CHECK(contains(about(findings, "sizes").text, "with a side below 224"));
  }
}

TEST_CASE("a sound table of one's own") {
  Clinic clinic;
  const auto findings = clinic.examined();
  CHECK(passed(findings));
  CHECK(contains(about(findings, "split").text, "2 test, 4 train; no scene is on both sides"));
  CHECK(about(findings, "sizes").text == "240 x 230 .. 240 x 230");
  CHECK(contains(about(findings, "labels").text, "0 .. 5, declared 0 .. 10"));
  CHECK(passed(clinic.examined(std::nullopt)));
}

TEST_CASE("what is wrong with rows, files and labels is found and named") {
  Clinic clinic;
  clinic.row("nowhere.png", 1, "", ""), clinic.row("a.png", 2, "", "");
  clinic.row("cut.png", 3, "", ""), clinic.row("same.png", 4, "", ""), clinic.row("f.png", 11, "", "");
  clinic.table += "b.png,nan,,\n";
  const auto whole = read_file(clinic.folder / "b.png");
  write_bytes(clinic.folder / "cut.png", std::string(whole.begin(), whole.begin() + 60));
  fs::copy(clinic.folder / "c.png", clinic.folder / "same.png");
  const auto findings = clinic.examined();
  CHECK_FALSE(passed(findings));
  const auto& rows = about(findings, "rows");
  REQUIRE(rows.items.size() == 3);
  CHECK(contains(rows.items[0], ".csv: row 8 (a.png): the same image as row 1"));
  CHECK(contains(rows.items[1], "row 11 (f.png): score 11 is outside the label range 0:10"));
  CHECK(contains(rows.items[2], "row 12 (b.png): score 'nan' is not a number"));
  const auto& files = about(findings, "files");
  CHECK(files.text == "1 missing, 1 unreadable");
  REQUIRE(files.items.size() == 2);
  CHECK(files.items[0] == "nowhere.png: no such file");
  CHECK(files.items[1].starts_with("cut.png: "));
  CHECK(about(findings, "duplicates").items == std::vector<std::string>{"c.png = same.png"});
}

TEST_CASE("two photos are no set, whatever else is well") {
  Clinic clinic;
  size_t end = clinic.table.find('\n') + 1;
  for (int row = 0; row < 2; ++row) end = clinic.table.find('\n', end) + 1;
  clinic.table.resize(end);
  const auto findings = clinic.examined();
  CHECK_FALSE(passed(findings));
  CHECK(about(findings, "rows").text == "2 rows, all usable, at least 3 photos are needed");
}

TEST_CASE("scenes on both sides of a split are found: by reference, and by looks") {
  Clinic clinic;
  write_image(clinic.folder / "g.png", Clinic::picture(40));
  clinic.row("g.png", 5, "scene0", "test");  // another photo of the scene of a.png
  write_image(clinic.folder / "h.png", distort(Clinic::picture(1), Distortion::Blur, 3, 0, 0));
  clinic.row("h.png", 5, "", "test");  // b.png blurred
  const auto findings = clinic.examined();
  const auto& split = about(findings, "split");
  CHECK(split.verdict == Verdict::Wrong);
  CHECK(split.items == std::vector<std::string>{"reference scene0 is in more than one part",
                                                "h.png (test) looks like b.png (train)"});
}

TEST_CASE("what a set is known to hold as published is noted, more of it is wrong") {
  Clinic clinic;
  const auto copy = [&](const char* name, const char* of, double score) {
    fs::copy(clinic.folder / of, clinic.folder / name), clinic.row(name, score, "", "");
  };
  const auto verdict = [&](const char* what, int64_t copies, bool twins) {
    write_bytes(clinic.folder / "t.csv", clinic.table);
    Dataset set = load_dataset(clinic.folder / "t.csv");
    set.known_copies = copies, set.known_twins = twins;
    return about(check_dataset(set, {}), what).verdict;
  };
  copy("same.png", "c.png", 3);
  CHECK(verdict("duplicates", 0, false) == Verdict::Wrong);
  CHECK(verdict("duplicates", 1, false) == Verdict::Note);
  copy("again.png", "d.png", 4);
  CHECK(verdict("duplicates", 1, false) == Verdict::Wrong);
  write_image(clinic.folder / "h.png", distort(Clinic::picture(1), Distortion::Blur, 3, 0, 0));
  clinic.row("h.png", 5, "", "test");
  CHECK(verdict("split", 0, false) == Verdict::Wrong);
  CHECK(verdict("split", 0, true) == Verdict::Note);
  write_image(clinic.folder / "g.png", Clinic::picture(40));
  clinic.row("g.png", 5, "scene0", "test");  // a reference on both sides is no twin
  CHECK(verdict("split", 0, true) == Verdict::Wrong);
}

TEST_CASE("BIQ2021: a table of any name beside its photos, each file held to its hash") {
  const TemporaryFolder folder;
  fs::create_directories(folder.path / "Images");
  std::string table = "image,mos,subset,sha256\n";
  for (int i = 0; i < 4; ++i) {
    const std::string name = concat("Images/ss01 (", i, ").png");
    write_image(folder / name, Clinic::picture(static_cast<uint64_t>(i)));
    table += name + ",0." + std::to_string(i + 1) + ",ss0" + std::to_string(i % 2 + 1) + "," + sha256_of_file(folder / name) + "\n";
  }
  const std::string data = "biq2021:" + folder.path.string() + ":";
  write_bytes(folder / "pool.csv", table);
  const Dataset set = load_dataset(data + (folder / "pool.csv"));
  REQUIRE(set.samples.size() == 4);
  CHECK(set.samples[1].name == "Images/ss01 (1).png");
  CHECK(set.samples[1].subset == "ss02");
  CHECK(set.samples[1].score == 0.2);
  CHECK(set.range.low == 0);
  CHECK(set.range.high == 1);
  CHECK_FALSE(set.range_observed);
  CHECK(set.higher_is_better);

  write_image(folder / "Images/ss01 (2).png", Clinic::picture(77));
  const auto refusal = [&](const std::string& text, DatasetOptions options = {}) {
    return test::message_of([&] { load_dataset(text, options); });
  };
  CHECK(contains(refusal(data + (folder / "pool.csv")),
                 "pool.csv: row 3 (Images/ss01 (2).png): not the file of the table: its SHA-256 differs (1 bad row of 4)"));
  std::vector<RowProblem> problems;
  CHECK(load_dataset(data + (folder / "pool.csv"), {.problems = &problems}).samples.size() == 3);
  CHECK(problems.size() == 1);
  fs::remove(folder.path / "Images/ss01 (0).png");
  CHECK(contains(refusal(data + (folder / "pool.csv")), "row 1 (Images/ss01 (0).png): no such image file"));
  write_bytes(folder / "high.csv", std::string("image,mos\nImages/ss01 (1).png,1.5\n"));
  CHECK(contains(refusal(data + (folder / "high.csv")), "mos 1.5 is outside the label range 0:1"));
  write_bytes(folder / "none.csv", std::string("image,sha256\na,b\n"));
  CHECK(contains(refusal(data + (folder / "none.csv")), "no column mos"));
  CHECK(contains(refusal("biq2021:" + folder.path.string()), "expected biq2021:FOLDER:TABLE"));
  CHECK(contains(refusal("biq2021:/nowhere:" + (folder / "pool.csv")), "/nowhere: no such folder"));
  CHECK(contains(refusal(data + (folder / "pool.csv"), {.lower_is_better = true}), "higher for better"));
  CHECK(contains(refusal("biq2020:a:b"), "did you mean 'biq2021'"));
}

TEST_CASE("labels of a published set that cannot be its own are found") {
  const TemporaryFolder folder;
  const auto findings_of = [&](auto change) {
    fs::remove_all(folder.path / "set");
    fs::copy(test::fixture("kadid10k"), folder.path / "set", fs::copy_options::recursive);
    std::string table = "dist_img,ref_img,dmos,var\n";
    const Dataset set = load_dataset("kadid10k:" + test::fixture("kadid10k"));
    for (const auto& sample : set.samples) {
      const std::string name = fs::path(sample.name).filename().string();
      table += name + "," + name.substr(0, 3) + ".png," + number_text(change(name)) + ",0.5\n";
    }
    write_bytes(folder / "set/dmos.csv", table);
    return check_dataset(load_dataset("kadid10k:" + folder / "set"), {});
  };
  const auto level = [](const std::string& name) { return static_cast<double>(name[name.size() - 5] - '0'); };
  const auto right = findings_of([&](auto& name) { return 5.2 - level(name) / 2; });
  CHECK(about(right, "direction").verdict == Verdict::Fine);
  CHECK(about(right, "labels").verdict == Verdict::Fine);
  CHECK(about(right, "photos").verdict == Verdict::Wrong);
  CHECK(about(right, "photos").text == "8 of 10125 as published");
  CHECK(about(right, "references").text == "2 of 81 as published");
  const auto turned = findings_of([&](auto& name) { return 1 + level(name) / 2; });
  CHECK(about(turned, "direction").verdict == Verdict::Wrong);
  CHECK(contains(about(turned, "direction").text, "contradict"));
  const auto percent = findings_of([&](auto& name) { return 100 - 10 * level(name); });
  CHECK(about(percent, "labels").verdict == Verdict::Wrong);
  CHECK(about(percent, "labels").items.size() == 8);
}

TEST_CASE("a perceptual hash survives distortion and tells pictures apart") {
  for (uint64_t i = 0; i < 20; ++i) {
    const Image picture = Clinic::picture(i);
    const PerceptualHash look = perceptual_hash(picture);
    for (const auto kind : {Distortion::Blur, Distortion::Noise, Distortion::Jpeg})
      CHECK(near_duplicate(look, perceptual_hash(distort(picture, kind, 3, 1, 1))));
    CHECK_FALSE(near_duplicate(look, perceptual_hash(Clinic::picture(i + 100))));
  }
  CHECK_FALSE(near_duplicate(perceptual_hash(Image(300, 300)),
                             perceptual_hash(Image(300, 300))));  // black has no features
  CHECK(perceptual_hash(Image(1, 1)).plain);
}
