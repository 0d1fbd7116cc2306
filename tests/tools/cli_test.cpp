// The command line as a user types it: the built program, run.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "engine/base/sha256.h"
#include "engine/cuda/cuda.h"
#include "tests/tools/run_qfm.h"

namespace qfm::test {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

const std::vector<Words> kCommands = {{},        {"score"},          {"embed"},          {"train"},
                                      {"eval"},  {"model"},          {"distort"},        {"model", "info"},
                                      {"data"},  {"data", "check"},  {"data", "split"},  {"data", "list"},
                                      {"bench"}, {"bench", "model"}, {"bench", "train"}, {"bench", "decode"}};

TEST_CASE("SHA-256 of FIPS 180-4's examples") {
  const auto of = [](const std::string& text) {
    return sha256({reinterpret_cast<const unsigned char*>(text.data()), text.size()});
  };
  CHECK(of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST_CASE("every command has help with an example, and a version") {
  for (Words words : kCommands) {
    words.push_back("--help");
    const auto help = bench().run(words);
    CHECK(help.code == 0);
    CHECK(help.err.empty());
    CHECK(help.out.find("Usage: qfm") != std::string::npos);
    CHECK(help.out.find("Example:\n  qfm ") != std::string::npos);
    words.back() = "--version";
    const auto version = bench().run(words);
    CHECK(version.code == 0);
    CHECK(version.out.starts_with("qfm "));
    CHECK(version.out.find("backends: cpu") != std::string::npos);
  }
}

TEST_CASE("a usage error is one line and exit code 2") {
  const auto refused = [](const Words& words, const std::string& part) {
    check_refused(bench().run(words), 2, part);
  };
  refused({}, "a command is needed");
  refused({"scor"}, "unknown command 'scor'; did you mean 'score'?");
  refused({"model", "inof"}, "did you mean 'info'?");
  refused({"score"}, "PATH is required");
  refused({"score", bench().a, "--jsn"}, "unknown flag '--jsn'; did you mean '--json'?");
  refused({"score", bench().a, "--thread=2"}, "did you mean '--threads'?");
  refused({"score", "--crop", "grid"}, "did you mean '--crops'?");
  refused({"train", "--epoch", "3"}, "did you mean '--epochs'?");
  refused({"train", "--data", "x.csv", "--out", "x", "--epochs", "0"}, "--epochs");
  refused({"train", "--data", "x.csv"}, "--out is missing");
  refused({"score", bench().a, "--threads", "many"}, "--threads");
  refused({"score", bench().a, "--seed", "-1"}, "--seed");
  refused({"score", bench().a, "--seed", "1.5"}, "--seed");
  refused({"score", bench().a, "--crops", "corner"}, "--crops");
  refused({"score", bench().a, "--crops", "random:0"}, "random:0");
  refused({"score", bench().a, "--resize", "100"}, "--resize");
  refused({"score", bench().a, "--device", "gpu"}, "auto, cpu, cuda");
  refused({"score", bench().a, "--dtype", "f8"}, "use auto, f32, bf16 or int8");
  refused({"train", "--dtype", "int8"}, "--dtype: 'int8' is for scoring");
  refused({"bench", "train", "--dtype", "int8"}, "--dtype int8: is for scoring");
  refused({"score", bench().a, "-o", "x.html"}, "not built yet");
  refused({"score", bench().a, "-o", "x.xml"}, ".jsonl");
  const auto convert = [&](const std::string& from, const std::string& to, const std::string& dtype, const Words& more,
                           const std::string& part) {
    Words words{"model", "convert", from, to, "--dtype", dtype};
    words.insert(words.end(), more.begin(), more.end());
    refused(words, part);
  };
  convert(bench().model, "out.pth", "f16", {}, "the file to write is a .safetensors");
  convert(bench().model, "out.onnx", "f16", {}, "--to onnx writes f32");
  convert(bench().model, "out.safetensors", "f32", {"--to", "onnx"}, "writes an .onnx");
  convert(bench().model, "out.safetensors", "f16", {"--to", "onyx"}, "use qfm, timm or onnx");
  convert(bench().model, "out.safetensors", "f16", {"--grid", "14"}, "as in 14x14");
  convert(bench().model, "out.safetensors", "f16", {"--patch", "0"}, "--patch");
  convert(bench().model, "out.safetensors", "int4", {}, "use f32, bf16, f16 or int8");
  refused({"embed", bench().a, "-o", "x.npy"}, ".safetensors");
}

TEST_CASE("what fails is one line with the file and exit code 1") {
  check_refused(bench().run({"score", bench().a, "--model", "nowhere.safetensors", "--device", "cpu"}), 1,
                "nowhere.safetensors: ");
  check_refused(bench().run({"score", bench().a, "--model", bench().a, "--device", "cpu"}), 1,
                bench().a + ": ");
  check_refused(bench().run({"model", "info", bench().bad}), 1, bench().bad + ": ");
  check_refused(bench().with_model({"eval", "--data", "nowhere.csv"}), 1, "nowhere.csv: ");
#if !defined(QFM_CUDA_DEVICE) && !defined(QFM_CUDA_HOST)
  if (!cuda::available())
    check_refused(bench().run({"score", bench().a, "--device", "cuda"}), 1, "; use --device cpu");
  check_refused(bench().run({"score", bench().a, "--device", "cuda:99"}), 1, "--device cuda:99: ");
#endif
}

// SCORE  PATH, of a model without calibration
bool is_score_of(const std::string& line, const std::string& path) {
  double score = 0;
  int end = 0;
  return std::sscanf(line.c_str(), "%lf  %n", &score, &end) == 1 && line.substr(static_cast<size_t>(end)) == path;
}

TEST_CASE("what libraries say of a damaged photo does not reach the reader") {
  const TemporaryFolder folder;
  for (const auto& entry : fs::directory_iterator(golden_path("formats"))) {
    const std::string name = entry.path().filename(), whole = content(entry.path());
    if (!name.starts_with("plain.")) continue;
    for (const size_t cut : {whole.size() / 2, whole.size() - 20}) {
      const std::string path = folder / name;
      write_file(path, whole.substr(0, cut) + std::string(20, '\xa5'));
      const auto outcome = bench().with_model({"score", "--quiet", path});
      CAPTURE(outcome.err);
      CHECK(outcome.talk().size() == static_cast<size_t>(outcome.code));
    }
  }
}

TEST_CASE("score prints a line a photo, in the order given, and goes on after a bad one") {
  const auto text = bench().with_model({"score", bench().b, bench().bad, "nowhere.jpg", bench().a});
  CHECK(text.code == 1);
  REQUIRE(text.lines().size() == 2);
  CHECK(is_score_of(text.lines()[0], bench().b));
  CHECK(is_score_of(text.lines()[1], bench().a));
  REQUIRE(text.talk().size() == 4);
  CHECK(text.talk()[0].starts_with("qfm: " + bench().model + ": not calibrated: "));
  CHECK(text.talk()[1].starts_with("qfm: " + bench().bad + ": "));
  CHECK(text.talk()[2].starts_with("qfm: nowhere.jpg: "));
  CHECK(text.talk()[3].starts_with("2 photos scored, 2 failed, "));
  CHECK(text.talk()[3].ends_with(" photos a second"));

  const auto json = bench().with_model({"score", "--json", "--quiet", bench().b, bench().bad, bench().a});
  CHECK(json.code == 1);
  CHECK(json.talk().size() == 1);
  const auto rows = json.json();
  REQUIRE(rows.size() == 3);
  CHECK(rows[0]["path"] == bench().b);
  CHECK(rows[0]["width"] == 500);
  CHECK(rows[0]["height"] == 240);
  CHECK(rows[0]["crops"] == 6);
  CHECK(rows[0]["score"].is_number());
  CHECK(rows[0]["spread"].get<double>() >= 0);
  CHECK(rows[1].size() == 2);
  CHECK(rows[1]["error"].get<std::string>().find(bench().bad) == std::string::npos);
  CHECK(rows[2]["path"] == bench().a);
}

TEST_CASE("a calibrated model's score comes with the interval that was asked for") {
  const auto score = [](const std::string& model, Words more) {
    Words words{"score", bench().a, "--device", "cpu", "--model", model};
    words.insert(words.end(), more.begin(), more.end());
    return bench().run(words);
  };
  const auto row = [&](const std::string& model, Words more) {
    more.insert(more.end(), {"--json", "--quiet"});
    return score(model, more).json().at(0);
  };
  const std::string& model = bench().calibrated_model;
  const auto usual = row(model, {}), half = row(model, {"--interval", "0.5"});
  CHECK(usual["interval"] == 0.9);
  CHECK(half["interval"] == 0.5);
  const double s = usual["score"];
  CHECK(half["score"] == s);
  // ratios 0.02 to 2: the 91st and the 51st of 100 times the untrained deviation 4, cut to 0..100
  const auto end = [](double value) { return doctest::Approx(std::clamp(value, 0.0, 100.0)).epsilon(1e-3); };
  CHECK(half["high"] == end(s + 1.02 * 4));
  CHECK(usual["high"] == end(s + 1.82 * 4));
  CHECK(usual["low"].get<double>() <= s);
  CHECK(usual.size() == 9);
  for (const char* key : {"path", "spread", "width", "height", "crops"}) CHECK(usual.contains(key));

  const auto text = score(model, {});
  double printed = 0, low = 0, high = 0;
  int at = 0;
  REQUIRE(std::sscanf(text.lines()[0].c_str(), "%lf  [%lf, %lf]  %n", &printed, &low, &high, &at) == 3);
  CHECK(text.lines()[0].substr(static_cast<size_t>(at)) == bench().a);
  CHECK(high == doctest::Approx(usual["high"].get<double>()).epsilon(0.01));
  CHECK(text.talk().size() == 1);  // nothing is said of a calibration that is there

  // Turned round, low stays low; --raw has the labels' unit and direction.
  const auto turned = row(bench().calibrated_dmos_model, {}), raw = row(bench().calibrated_dmos_model, {"--raw"});
  CHECK(turned["low"].get<double>() <= turned["score"].get<double>());
  CHECK(turned["score"].get<double>() <= turned["high"].get<double>());
  CHECK(raw["low"] == doctest::Approx(9 * (100 - turned["high"].get<double>()) / 100).epsilon(1e-3));
  CHECK(raw["low"].get<double>() <= raw["high"].get<double>());

  const TemporaryFolder folder;
  CHECK(score(model, {"-o", folder / "r.csv"}).code == 0);
  const std::string csv = content(folder / "r.csv");
  CHECK(csv.find("# interval: 0.9\n") != std::string::npos);
  CHECK(csv.find(",0.9,") != std::string::npos);
  check_refused(score(model, {"--interval", "1"}), 2, "--interval: 1 is not inside 0..1");
  check_refused(score(model, {"--interval", "0.999"}), 2, "--interval: the model was calibrated with 100 photos");
}

TEST_CASE("a score depends on neither threads nor company, and random crops on the seed") {
  const auto score = [](Words words) {
    words.insert(words.begin(), {"score", "--json", "--quiet"});
    return bench().with_model(words).json().back();
  };
  const auto alone = score({bench().a, "--threads", "1"});
  CHECK(score({bench().a, "--threads", "2"}) == alone);
  CHECK(score({bench().b, bench().b, bench().b, bench().a}) == alone);
  CHECK(score({bench().a, "--crops", "center"})["crops"] == 1);
  const auto seeded = score({bench().a, "--crops", "random:3", "--seed", "1"});
  CHECK(seeded["crops"] == 3);
  CHECK(score({bench().a, "--crops", "random:3", "--seed", "1"}) == seeded);
  CHECK(score({bench().a, "--crops", "random:3", "--seed", "2"}) != seeded);
  CHECK(score({bench().a, "--max-pixels", "1000"}).contains("error"));
}

TEST_CASE("labels that are lower for better photos are turned round, unless raw") {
  const auto score = [](const std::string& model, const Words& more) {
    Words words{"score", "--json", bench().a, "--model", model};
    words.insert(words.end(), more.begin(), more.end());
    return bench().run(words);
  };
  const double plain = score(bench().model, {}).json()[0]["score"];
  const auto turned = score(bench().dmos_model, {});
  CHECK(turned.err.find("turned round") != std::string::npos);
  CHECK(turned.json()[0]["score"].get<double>() == doctest::Approx(100 - plain).epsilon(1e-5));
  const double raw = score(bench().dmos_model, {"--raw"}).json()[0]["score"];
  CHECK(std::abs(raw - plain * 9 / 100) < 1e-3);
}

TEST_CASE("--sort puts the best first; folders and lists are walked") {
  const TemporaryFolder folder;
  fs::create_directories(folder.path / "deep");
  fs::copy(bench().a, folder.path / "2.PNG");
  fs::copy(bench().b, folder.path / "1.jpg");
  fs::copy(bench().b, folder.path / ".hidden.jpg");
  fs::copy(bench().a, folder.path / "deep/3.png");
  write_file(folder / "notes.txt", "no photo");
  const auto paths = [&](const Words& words, const std::string& input = "") {
    Words all{"score", "--json"};
    all.insert(all.end(), words.begin(), words.end());
    Words found;
    for (const auto& row : bench().with_model(all, input).json()) found.push_back(row["path"]);
    return found;
  };
  CHECK(paths({folder.path}) == Words{folder / "1.jpg", folder / "2.PNG"});
  // Photos under other names; what is left out is told by kind.
  const TemporaryFolder mixed;
  fs::copy(bench().b, mixed.path / "a.JFIF"), fs::copy(bench().b, mixed.path / "b.jpg_large"), fs::copy(bench().a, mixed.path / "c");
  write_file(mixed / "d.jp2", std::string("\0\0\0\x0cjP  \r\n\x87\n", 12));
  write_file(mixed / "e.cr3", std::string("\0\0\0\x18" "ftypcrx \0\0\0\0", 16));
  write_file(mixed / "f.CR3", std::string("\0\0\0\x18" "ftypcrx \0\0\0\0", 16));
  write_file(mixed / "g.psd", "8BPS");
  write_file(mixed / "notes.txt", "no photo"), write_file(mixed / "empty", "");
  CHECK(paths({mixed.path}) == Words{mixed / "a.JFIF", mixed / "b.jpg_large", mixed / "c"});
  const auto told = bench().with_model({"score", "--quiet", mixed.path});
  CHECK(told.code == 0);
  REQUIRE(told.talk().size() == 1);
  CHECK(told.talk()[0] == "qfm: " + mixed.path.string() + ": left out 2 CR3, 1 JPEG 2000, 1 PSD, 2 other files");
  check_refused(bench().with_model({"score", "--quiet", mixed / "e.cr3"}), 1, mixed / "e.cr3" + ": CR3, not built in: exiftool");
  CHECK(paths({"-r", folder.path}) == Words{folder / "1.jpg", folder / "2.PNG", folder / "deep/3.png"});
  CHECK(paths({"-"}, bench().b + "\n\n" + bench().a) == Words{bench().b, bench().a});
  const Words both{bench().b, bench().a};
  const std::string nul = bench().b + std::string(1, '\0') + bench().a + std::string(1, '\0');
  CHECK(paths({"-"}, nul) == both);
  CHECK(paths({"-0", "-"}, nul) == both);
  CHECK(paths({"-0", "-"}, bench().b) == Words{bench().b});
  CHECK(paths({"-"}, "\xEF\xBB\xBF" + bench().b + "\r\n" + bench().a + "\r\n") == both);
  check_refused(bench().with_model({"score", "-", "--quiet"}, "\xFF\xFEp\n"), 1, "-: the list on standard input is UTF-16 text");
  const auto sorted =
      bench().with_model({"score", "--sort", "--json", bench().a, bench().bad, bench().b}).json();
  REQUIRE(sorted.size() == 3);
  CHECK(sorted[0]["score"] >= sorted[1]["score"]);
  CHECK(sorted[2].contains("error"));
  fs::create_directory(folder.path / "empty");
  CHECK(bench().with_model({"score", folder / "empty"}).code == 1);
  const auto nothing = bench().with_model({"score", "-", "--quiet"}, "\n");
  check_refused(nothing, 1, "-: no photos in the list on standard input");
}

// Folders inside folders, until the path is too long to be opened; nothing else keeps root out.
void make_bottomless(const std::string& folder) {
  const std::string name(200, 'd');
  int at = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  for (int depth = 0; depth < 25; ++depth) {
    REQUIRE(::mkdirat(at, name.c_str(), 0755) == 0);
    const int next = ::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY);
    ::close(at);
    REQUIRE(next >= 0);
    at = next;
  }
  ::close(at);
}

TEST_CASE("a folder that cannot be read is reported, and the rest of the tree is scored") {
  const TemporaryFolder folder;
  fs::create_directories(folder.path / "deep");
  fs::copy(bench().a, folder.path / "1.png");
  fs::copy(bench().a, folder.path / "zoo.png");
  make_bottomless(folder / "deep");
  const auto outcome = bench().with_model({"score", "-r", "--json", "--quiet", folder.path});
  CHECK(outcome.code == 1);
  const auto rows = outcome.json();
  REQUIRE(rows.size() == 3);
  CHECK(rows[0]["path"] == folder / "1.png");
  CHECK(rows[1]["path"].get<std::string>().starts_with(folder / "deep/d"));
  CHECK(rows[1]["error"] == "File name too long");
  CHECK(rows[2]["path"] == folder / "zoo.png");
  CHECK(rows[2].contains("score"));
  CHECK(outcome.talk().size() == 1);
}

TEST_CASE("-o writes each format with its header") {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& name) {
    const auto outcome = bench().with_model({"score", bench().a, bench().bad, "-o", folder / name});
    CHECK(outcome.code == 1);
    CHECK(outcome.out.empty());
    CHECK(!fs::exists(folder / (name + ".part")));
    return content(folder / name);
  };
  const auto json = nlohmann::json::parse(write("r.json"));
  CHECK(json["header"].contains("icc") == !QFM_WITH_ICC);  // lcms2 is not built in
  bench().with_model({"score", bench().a, "--no-icc", "-o", folder / "stored.json"});
  CHECK(nlohmann::json::parse(content(folder / "stored.json"))["header"]["icc"] == "ignored");
  CHECK(json["header"]["model"] == "random");
  CHECK(json["header"]["model_sha256"] == sha256_of_file(bench().model));
  for (const char* key : {"version", "scale", "training_set", "crops", "seed"})
    CHECK(json["header"].contains(key));
  CHECK(json["results"].size() == 2);
  const auto rows = lines_of(write("r.jsonl"));
  REQUIRE(rows.size() == 2);
  CHECK(nlohmann::json::parse(rows[0]) == json["results"][0]);
  CHECK(nlohmann::json::parse(rows[1]) == json["results"][1]);
  const std::string csv = write("r.csv");
  CHECK(csv.starts_with("# tool: qfm\n"));
  CHECK(csv.find("\npath,score,low,high,interval,spread,width,height,crops,error\n" + bench().a + ",") != std::string::npos);
}

TEST_CASE("an unknown QFM_CPU is one line, before anything is read") {
  const auto unknown = bench().spawn({"env", "QFM_CPU=sse", QFM_PROGRAM, "score", "--device", "cpu", "--model", bench().model, bench().a}, "", "");
  check_refused(unknown, 1, "QFM_CPU=sse: expected one of ");
}

TEST_CASE("photos come through pipes, and a reader who has gone is no error") {
  const auto piped = bench().spawn({"bash", "-c", "'" QFM_PROGRAM "' score --quiet --device cpu --model '" + bench().model + "' <(cat '" +
                                                      bench().a + "') && cat '" + bench().a + "' | '" QFM_PROGRAM
                                                      "' score --quiet --device cpu --model '" + bench().model + "' /dev/stdin"},
                                   "", "");
  const std::string plain = bench().with_model({"score", "--quiet", bench().a}).lines().at(0);
  REQUIRE(piped.lines().size() == 2);
  for (const std::string& line : piped.lines()) CHECK(line.substr(0, line.find(' ')) == plain.substr(0, plain.find(' ')));
  const auto left = bench().spawn({"sh", "-c", "'" QFM_PROGRAM "' score --device cpu --quiet --model '" + bench().model + "' '" +
                                                   bench().a + "' '" + bench().a + "' | : ; echo done"}, "", "");
  CHECK(left.out == "done\n");
  CAPTURE(left.err);
  CHECK(left.err.empty());  // a reader who has gone is no error
}

TEST_CASE("what cannot be written leaves the old file, and what was finished can be read") {
  check_refused(bench().with_model({"score", bench().a, "-o", "/nowhere/x.json"}), 1, "/nowhere/x.json: ");
  const auto full = bench().with_model({"score", bench().a, "--quiet"}, "", "/dev/full");
  check_refused(full, 1, "standard output: ");
  const TemporaryFolder folder;
  const std::string old = folder / "old.jsonl";
  write_file(old, "old");
  std::string photos;
  for (int i = 0; i < 40; ++i) photos += " '" + bench().a + "'";
  // A limit on the size of files stands for a disk that fills.
  const auto filled = bench().spawn({"sh", "-c",
                                     "ulimit -f 2; exec '" QFM_PROGRAM "' score --quiet" + photos + " -o '" + old +
                                         "' --device cpu --model '" + bench().model + "'"},
                                    "", "");
  check_refused(filled, 1, old + ": ");
  CHECK(content(old) == "old");
  const auto rows = lines_of(content(old + ".part"));
  REQUIRE(rows.size() > 4);
  CHECK(nlohmann::json::parse(rows[0]).contains("header"));
  for (size_t i = 1; i + 1 < rows.size(); ++i) CHECK(nlohmann::json::parse(rows[i])["path"] == bench().a);
}

TEST_CASE("an interrupted score -o goes on where it was") {
  const TemporaryFolder folder;
  const std::string odd = folder / "a, \"b\".png", changed = folder / "changed.png";
  fs::copy(bench().a, odd), fs::copy(bench().a, changed);
  std::string header;
  for (const std::string name : {"r.json", "r.csv", "r.jsonl"}) {
    CAPTURE(name);
    const std::string file = folder / name, part = file + ".part";
    const std::vector<std::string> command{"score", "--interval", "0.8", "--device", "cpu", "--model", bench().calibrated_model, "-o", file, odd, bench().bad, changed, bench().b};
    const auto run = [&] { return bench().run(command); };
    run();
    const std::string whole = content(file);
    // What a run leaves that dies within the row of the last photo.
    if (name == "r.json") header = lines_of(whole)[0];
    std::string left = name == "r.jsonl" ? header.substr(0, header.size() - 1) + "}\n" + whole : whole;
    left.resize(left.rfind(bench().b) + 3);
    write_file(part, left);
    fs::last_write_time(changed, fs::file_time_type::clock::now());  // touched after FILE.part was made
    const auto outcome = run();
    CHECK(outcome.code == 1);
    CHECK(outcome.talk().at(0) == "qfm: " + part + ": goes on: 1 photo scored before, 1 changed since");
    CHECK(content(file) == whole);
    CHECK(!fs::exists(part));
    write_file(part, "# tool: another\n");
    CHECK(run().err.find("begun anew") != std::string::npos);
    CHECK(content(file) == whole);
  }
}

}  // namespace
}  // namespace qfm::test
