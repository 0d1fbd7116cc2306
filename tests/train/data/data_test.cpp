// Manifests: columns, folds, what is wrong with a table, splitting, and seeded damage to tables.
#include <filesystem>
#include <fstream>
#include <set>

#include "engine/base/io.h"
#include "engine/base/rng.h"
#include "tests/support.h"
#include "train/data/csv.h"
#include "train/data/dataset.h"

using namespace qfm;
using namespace std::string_literals;
using test::contains, test::message_of;

namespace {

// A folder with images a.png, b.png, ... (empty files: nothing here opens them) and a table.
struct TableFolder {
  test::TemporaryFolder folder;
  explicit TableFolder(int images = 4, const std::string& inside = "") {
    if (!inside.empty()) std::filesystem::create_directory(folder.path / inside);
    for (int i = 0; i < images; ++i)
      write_file((folder.path / inside / (std::string(1, 'a' + i) + ".png")).string(), "");
  }
  std::string table(const std::string& text) const {
    write_file(folder / "t.csv", text);
    return folder / "t.csv";
  }
  Dataset load(const std::string& text, const DatasetOptions& options = {}) const {
    return load_dataset(table(text), options);
  }
  std::string refusal(const std::string& text, const DatasetOptions& options = {}) const {
    const std::string path = table(text), message = message_of([&] { load_dataset(path, options); });
    REQUIRE(message.starts_with(path + ": "));
    return message.substr(path.size() + 2);
  }
};

}  // namespace

TEST_CASE("what is wrong with a table is said in one line") {
  const TableFolder t;
  CHECK(t.refusal("image,score\na.png,1\nb.png,abc\nc.png,nan\n") ==
        "row 2 (b.png): score 'abc' is not a number (2 bad rows of 3)");
  for (const std::string bad : {"nan", "inf", "-inf", "1e999", "0x10", "", "1 2", "+-1", "--1", "1,5", "1_0"})
    CHECK(contains(t.refusal("image,score\na.png,\"" + bad + "\"\n"),
                   "row 1 (a.png): score '" + bad + "' is not a number"));
  CHECK(
      contains(t.refusal("image,quality\na.png,1\n"), "no column score, mos, dmos (found: image, quality)"));
  CHECK(contains(t.refusal("image,scor\na.png,1\n"), "did you mean 'scor'?"));
  CHECK(contains(t.refusal("image;score\na.png;1\n"), "separated by commas"));
  CHECK(contains(t.refusal("image,score,mos\na.png,1,2\n"),
                 "columns 2 and 3 (score, mos) both could be the score"));
  CHECK(contains(t.refusal("image,score,Score\na.png,1,2\n"), "columns 2 and 3"));
  CHECK(contains(t.refusal("image,score\n"), "a header but no rows"));
  CHECK(contains(t.refusal("\n\n"), "empty"));
  CHECK(contains(t.refusal("image,score\n,1\n"), "row 1: no image name"));
  CHECK(contains(t.refusal("image,score\na.png,1,2\n"), "row 1 (a.png): 3 fields, the header has 2"));
  CHECK(contains(t.refusal("image,score\nz.png,1\n"), "row 1 (z.png): no such image file"));
  CHECK(contains(t.refusal("image,score\n.,1\n"), "no such image file"));  // a folder is none
  CHECK(contains(t.refusal("image,score\na.png,1\n./a.png,2\n"), "row 2 (./a.png): the same image as row 1"));
  CHECK(contains(t.refusal("image,score,std\na.png,1,-2\n"), "std -2 is negative"));
  CHECK(contains(t.refusal("image,score,std\na.png,1,x\n"), "std 'x' is not a number"));
  CHECK(contains(t.refusal("image,score\na.png,3\n", {.scale = Range{0, 1}}), "outside the label range 0:1"));
  CHECK(contains(t.refusal("image,score\n\"a.png\"x,1\n"), "row 1: text after the closing quote"));
  CHECK(contains(t.refusal("image,score\na\"b.png,1\n"), "row 1: a quote inside the unquoted field"));
  CHECK(contains(t.refusal("image,\"score\na.png,1\n"), "header: the quote"));
  CHECK(contains(t.refusal("\x89PNG\r\n\x1a\n\0\0\0\r"s), "not a text table"));
  CHECK(contains(t.refusal("\xFF\xFEi\0m\0"s), "UTF-16"));
  CHECK(contains(t.refusal("image,score\n\"new\nline.png\",1\n"), "(new?line.png)"));
  CHECK(contains(t.refusal(std::string(5000, ',')), "more than 4096 fields"));
  CHECK(contains(message_of([&] { load_dataset(t.folder / "none.csv"); }), "none.csv: No such file"));
  CHECK(
      contains(message_of([&] { load_dataset(t.folder.path.string()); }), "a folder; --data takes a table"));
}

TEST_CASE("columns: names, order, letter case and folds") {
  const TableFolder t(8);
  const std::string table =
      "id,MOS,fold,Image\n1,0.5,train,a.png\n2, +2e-1 ,val,b.png\n3,x,test,c.png\n4,0.75,train,d.png\n"
      "5,0.7,train,e.png\n6,0.3,val,f.png\n7,0.3,val,g.png\n8,1,few,h.png";
  const auto train = t.load(table, {.fold = "fold=train"});
  REQUIRE(train.samples.size() == 3);
  CHECK(train.samples[1].name == "d.png");
  CHECK(train.range.low == 0.5);
  CHECK(train.range.high == 0.75);
  CHECK(train.scaled(0.625) == 50);
  CHECK(train.unscaled(train.scaled(0.7)) == doctest::Approx(0.7));
  CHECK(t.load(table, {.fold = "fold=val"}).samples[0].score == 0.2);
  CHECK(contains(t.refusal(table, {.fold = "fold=Train"}),
                 "none of 8 rows has fold=Train (found: few, test, train, val)"));
  CHECK(contains(t.refusal(table, {.fold = "folds=train"}),
                 "no column folds (found: id, MOS, fold, Image); did you mean 'fold'?"));
  CHECK(contains(message_of([&] { t.load(table, {.fold = "fold"}); }), "'fold' is not COLUMN=VALUE"));
  CHECK(contains(message_of([&] { t.load(table, {.fold = "fold=few"}); }), "1 photo, at least 3 are needed"));

  const auto dmos = t.load("path,dmos\na.png,3\nb.png,4\nc.png,5\n", {.scale = Range{0, 10}});
  CHECK(dmos.higher_is_better);
  CHECK_FALSE(dmos.range_observed);
  CHECK(dmos.scaled(3) == 30);
  CHECK_FALSE(t.load("path,dmos\na.png,3\nb.png,4\nc.png,5\n", {.lower_is_better = true}).higher_is_better);
  const auto flat = t.load("path,dmos\na.png,3\nb.png,3\nc.png,3\n");
  CHECK(contains(message_of([&] { flat.scaled(3); }), "--scale LO:HI"));
  CHECK(t.load("image,score\r\ra.png,1\rb.png,2\rc.png,3").samples.size() == 3);  // CR alone ends a line too
}

TEST_CASE("tables as people have them: blanks around fields, comments, other names of columns, unknown deviations") {
  const TableFolder t;
  const auto read = [&](const std::string& text, const DatasetOptions& options = {}) {
    const Dataset set = t.load(text, options);
    REQUIRE(set.samples.size() == 3);
    CHECK(set.samples[1].name == "b.png");
    return set.samples[1].score;
  };
  CHECK(read("image, score\na.png, 1\n b.png ,\t2 \n\"c.png\" , 3\n") == 2);
  CHECK(read("# made by hand\n#image,score\nimage,score\na.png,1\n# the next one is blurred\nb.png,2\nc.png,3\n") == 2);
  for (const char* name : {"path", "file", "filename", "name", "image_name", "File"})
    CHECK(read(std::string(name) + ",mos\na.png,1\nb.png,2\nc.png,3\n") == 2);
  CHECK(read("name,image,mos\nAnna,a.png,1\nBert,b.png,2\nCleo,c.png,3\n") == 2);  // the usual name first
  CHECK(read("photo,image,opinion,score\na.png,x,1,7\nb.png,x,2,7\nc.png,x,3,7\n",
             {.image_column = "photo", .score_column = "opinion"}) == 2);
  CHECK(contains(t.refusal("image,score\na.png,1\n", {.score_column = "opinion"}), "no column opinion (found: image, score)"));
  const Dataset deviations = t.load("image,score,std\na.png,1,\nb.png,2,NaN\nc.png,3,0.5\n");
  CHECK_FALSE(deviations.samples[0].std);
  CHECK_FALSE(deviations.samples[1].std);
  CHECK(deviations.samples[2].std == 0.5);
  // What qfm score -o x.csv writes is a table too.
  CHECK(read("# tool: qfm\n# scale: 0-100, higher is better\npath,score,low,high,interval,spread,width,height,crops,error\n"
             "a.png,1,,,,0,3,3,1,\nb.png,2,,,,0,3,3,1,\nc.png,3,,,,0,3,3,1,\n") == 2);
  // A # that is no comment: no photo is left out without a word.
  CHECK(contains(t.refusal("image,score\n#1.png,1\n"), "row 1 (#1.png): no such image file"));
}

TEST_CASE("images are found beside the table, in images/ there, or under --root") {
  const TableFolder beside, within(3, "images");
  const std::string table = "image,score\na.png,1\nb.png,2\nc.png,3\n";
  CHECK(beside.load(table).samples[0].path == beside.folder / "a.png");
  CHECK(within.load(table).samples[0].path == within.folder / "images/a.png");
  const auto rooted = beside.load(table, {.root = within.folder / "images"});
  CHECK(rooted.samples[1].path == within.folder / "images/b.png");
  CHECK(contains(beside.refusal("image,score\nd.png,1\n", {.root = within.folder / "images"}),
                 "in " + within.folder.path.string()));
}

TEST_CASE("a name is found in either Unicode form") {
#ifdef QFM_WITH_UNICODE
  const TableFolder t;
  const std::string composed = "caf\xc3\xa9.jpg", apart = "cafe\xcc\x81.jpg", folder = "\xc3\xa9";
  std::filesystem::create_directory(t.folder.path / folder);
  for (const std::string& name : {composed, folder + "/1.png"}) write_file(t.folder / name, "");
  CHECK(t.load("image,score\n" + apart + ",1\ne\xcc\x81/1.png,2\na.png,3\n").samples[0].path == t.folder / composed);
  CHECK(contains(t.refusal("image,score\ncafe.jpg,1\n"), "no such image file"));
  CHECK(contains(t.refusal("image,score\ncaf\xe9.jpg,1\n"), "no such image file"));  // Latin-1
#else
  QFM_SKIP("utf8proc is not built in");
#endif
}

TEST_CASE("the BIQ2021 table by fold") {
  const auto path = test::shared_path("data/biq2021/labels.csv");
  if (path.empty()) QFM_SKIP("no data/biq2021");
  CHECK(load_dataset(path, {.fold = "fold=train"}).samples.size() == 2439);
  CHECK(load_dataset(path, {.fold = "fold=val"}).samples.size() == 561);
}

TEST_CASE("split_fraction: seeded, disjoint in references, complete, in order") {
  Dataset all;
  all.name = "set", all.range = {0, 5}, all.higher_is_better = false;
  for (int i = 0; i < 100; ++i) {
    all.samples.push_back({});
    all.samples.back().name = std::to_string(i), all.samples.back().score = i;
    if (i < 60) all.samples.back().reference = concat("r", i % 10);
  }
  const auto [train, val] = split_fraction(all, 0.2, 1);
  CHECK(train.samples.size() + val.samples.size() == 100);
  CHECK(val.range.high == 5);
  CHECK_FALSE(val.higher_is_better);
  std::set<std::string> references, names;
  size_t groups = 0;
  for (const auto& s : val.samples) {
    groups += s.reference.empty() || references.insert(s.reference).second;
    names.insert(s.name);
  }
  CHECK(groups == 10);  // a fifth of 10 references and 40 photos without one
  for (size_t i = 0; i < train.samples.size(); ++i) {
    CHECK_FALSE(names.contains(train.samples[i].name));
    CHECK_FALSE(references.contains(train.samples[i].reference));
    if (i > 0) CHECK(train.samples[i - 1].score < train.samples[i].score);
  }
  const auto same = split_fraction(all, 0.2, 1).second, other = split_fraction(all, 0.2, 2).second;
  const auto listed = [](const Dataset& d) {
    std::string text;
    for (const auto& s : d.samples) text += s.name + " ";
    return text;
  };
  CHECK(listed(same) == listed(val));
  CHECK(listed(other) != listed(val));
  CHECK(split_fraction(all, 1e-9, 1).second.samples.size() >= 1);
  CHECK(split_fraction(all, 1 - 1e-9, 1).first.samples.size() >= 1);
  CHECK(contains(message_of([&] { split_fraction(all, 1.0, 1); }), "fraction"));
  all.samples.resize(1);
  CHECK(contains(message_of([&] { split_fraction(all, 0.5, 1); }), "cannot be split"));
}

TEST_CASE("ranges and folds on the command line") {
  CHECK(parse_range("-2.64:111.77").low == -2.64);
  CHECK(parse_range("-2.64:111.77").high == 111.77);
  for (const char* bad : {"", "5", "5:", ":5", "1:0", "1:1", "0:nan", "a:b", "0:1:2", "-1e308:1e308"})
    CHECK_FALSE(message_of([&] { parse_range(bad); }).empty());
  CHECK(parse_fold("fold=a=b").second == "a=b");
  CHECK(parse_fold("fold=").second.empty());
  CHECK_FALSE(message_of([] { parse_fold("=x"); }).empty());
}

TEST_CASE("damaged tables are read or refused, never worse") {
  const TableFolder t;
  std::vector<std::string> tables;
  for (const char* name : {"manifest", "minimal", "quoted"}) {
    const auto bytes = read_file(test::golden_path(std::string("datasets/manifest/") + name + ".csv"));
    tables.emplace_back(bytes.begin(), bytes.end());
  }
  tables.push_back("image,score,std\nimages/a.png,1,0.5\n\"images/b.jpg\",2,\r\n\"images/d.png\",3e0,1\n");
  const std::string alphabet = "\",\r\n\0;:=-+.eE019aN\xEF\xBB\xBF\xFF "s;
  const DatasetOptions options{.root = test::golden_path("datasets/manifest")};
  Rng rng(11, "damage");
  int read = 0, refused = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string text = tables[rng.below(static_cast<uint32_t>(tables.size()))];
    if (rng.below(3) == 0) text.resize(rng.below(static_cast<uint32_t>(text.size())));
    for (uint32_t edits = rng.below(5); edits > 0 && !text.empty(); --edits) {
      const auto at = rng.below(static_cast<uint32_t>(text.size()));
      const char c = alphabet[rng.below(static_cast<uint32_t>(alphabet.size()))];
      if (rng.below(2)) text[at] = c;
      else text.insert(at, 1, c);
    }
    std::ofstream(t.folder / "t.csv", std::ios::binary) << text;
    const auto message = message_of([&] {
      for (const auto& sample : load_dataset(t.folder / "t.csv", options).samples)
        REQUIRE(std::isfinite(sample.score));
      ++read;
    });
    if (message.empty()) continue;
    ++refused;
    CHECK(message.starts_with(t.folder / "t.csv"));
  }
  CHECK(read > 0);
  CHECK(refused > 0);
  MESSAGE("damaged tables: " << read << " read, " << refused << " refused");
}
