// The commands beside score.
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "engine/base/sha256.h"
#include "engine/safetensors.h"
#include "tests/tools/run_qfm.h"

namespace qfm::test {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// Five photos of falling quality and their manifest, made by `distort`.
std::string graded_photos(const TemporaryFolder& folder) {
  const auto outcome =
      bench().run({"distort", bench().a, "-o", folder.path, "--kind", "blur", "--seed", "1"});
  CHECK(outcome.code == 0);
  return folder / "manifest.csv";
}

TEST_CASE("embed writes one row a crop") {
  const TemporaryFolder folder;
  const std::string path = folder / "f.safetensors";
  const auto outcome = bench().with_model({"embed", bench().b, bench().bad, bench().a, "-o", path});
  CHECK(outcome.code == 1);
  CHECK(outcome.out.empty());
  const auto file = TensorFile::open(path);
  const auto cls = file.tensor("cls"), patches = file.tensor("patches");
  CHECK(cls.shape() == Shape{10, 24});
  CHECK(patches.shape() == Shape{10, 196, 24});
  CHECK(cls.dtype() == DType::F32);
  const auto files = nlohmann::json::parse(file.metadata().at("files"));
  const auto rows = nlohmann::json::parse(file.metadata().at("rows"));
  REQUIRE(files.size() == 10);
  CHECK(files[5] == bench().b);
  CHECK(files[6] == bench().a);
  CHECK(rows[6] == nlohmann::json{{"path", bench().a}, {"left", 0}, {"top", 0}});
}

TEST_CASE("embed equals timm's features of real photos") {
  const auto golden_file = shared_path("golden/deit_tiny_real.safetensors");
  const auto weights = shared_path("weights/deit_tiny_patch16_224.safetensors");
  const auto first = shared_path("data/pristine/cid22_1082342.jpg");
  const auto second = shared_path("data/pristine/clic_7e499613c3e376ea93afb3649719abeb.jpg");
  if (golden_file.empty() || weights.empty() || first.empty() || second.empty()) QFM_SKIP("no ../shared");
  const TemporaryFolder folder;
  const std::string path = folder / "f.safetensors";
  REQUIRE(bench()
              .run({"embed", first, second, "--crops", "center", "--resize", "none", "--model", weights, "-o",
                    path})
              .code == 0);
  const auto file = TensorFile::open(path);
  const auto wanted = TensorFile::open(golden_file).tensor("out.norm"), cls = file.tensor("cls"),
             patches = file.tensor("patches");
  REQUIRE(patches.shape() == Shape{2, 196, 192});
  double worst = 0, largest = 0;
  for (int64_t i = 0; i < 2; ++i)
    for (int64_t t = 0; t < 197; ++t)
      for (int64_t d = 0; d < 192; ++d) {
        const double want = wanted.data<float>()[(i * 197 + t) * 192 + d];
        const double have =
            t == 0 ? cls.data<float>()[i * 192 + d] : patches.data<float>()[(i * 196 + t - 1) * 192 + d];
        worst = std::max(worst, std::abs(have - want)), largest = std::max(largest, std::abs(want));
      }
  CAPTURE(worst / largest);
  CHECK(worst / largest < 2e-4);
}

TEST_CASE("model info says what a backbone under others' names is") {
  const std::string path = shared_path("weights/deit_tiny_patch16_224.safetensors");
  if (!fs::exists(path)) QFM_SKIP("no pretrained weights");
  const auto info = bench().run({"model", "info", "--json", path}).json().at(0);
  CHECK(info["architecture"] == "vit-tiny");
  CHECK(info["parameters"] == 5717416);
}

TEST_CASE("model info says what a checkpoint is") {
  const auto outcome = bench().run({"model", "info", bench().dmos_model, "--json"});
  CHECK(outcome.code == 0);
  const auto info = outcome.json().at(0);
  CHECK(info["architecture"] == "vit-tiny");
  CHECK(info["name"] == "random");
  CHECK(info["stored_as"] == "BF16");
  CHECK(info["higher_is_better"] == false);
  CHECK(info["label_high"] == 9);
  CHECK(info["sha256"] == sha256_of_file(bench().dmos_model));
  CHECK(bench().run({"model", "info", bench().model}).out.find("architecture       vit-tiny\n") !=
        std::string::npos);
  const std::string shipped = QFM_SOURCE_DIR "/models/pretrained/qfm-tiny.safetensors";
  CHECK(bench().run({"model", "info", "--json", shipped}).json().at(0)["name"] == "qfm-tiny");
}

TEST_CASE("model convert: a file in eight bits is scored in INT8 by itself, and the results say so") {
  const TemporaryFolder folder;
  const std::string small = folder / "small.safetensors", report = folder / "r.json";
  const Outcome made = bench().run({"model", "convert", bench().model, small, "--dtype", "int8"});
  CHECK(made.code == 0);
  CHECK(made.out.empty());
  CHECK(made.err.starts_with(small + ": "));
  const auto info = [&](const std::string& of) { return bench().run({"model", "info", "--json", of}).json().at(0); };
  CHECK(contains(info(small)["stored_as"], " I8"));
  CHECK(info(small)["parameters"] == info(bench().model)["parameters"]);
  const auto scores = [&](const std::string& model, const Words& more) {
    Words words{"score", bench().a, bench().b, "--json", "--device", "cpu", "--model", model, "-o", report};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = bench().run(words);
    CHECK(outcome.code == 0);
    const auto header = nlohmann::json::parse(content(report))["header"];
    CHECK(!header["kernels"].get<std::string>().empty());
    return std::pair(header["dtype"].get<std::string>(), outcome.out);
  };
  const auto in_int8 = scores(small, {});
  CHECK(in_int8.first == "int8");
  CHECK(in_int8 == scores(bench().model, {"--dtype", "int8"}));
  CHECK(scores(bench().model, {}).first == "f32");
  CHECK(scores(small, {"--dtype", "bf16"}).first == "bf16");
  const std::string features = folder / "f.safetensors";
  for (const char* dtype : {"auto", "int8"}) {
    const Outcome embedded =
        bench().run({"embed", bench().a, "--device", "cpu", "--model", small, "--dtype", dtype, "-o", features});
    CHECK(embedded.code == 0);
    const auto about = nlohmann::json::parse(TensorFile::open(features).metadata().at("embedding"));
    CHECK(about["dtype"] == (dtype == std::string("auto") ? "f32" : dtype));
  }
}

TEST_CASE("distort grades photos and eval measures on its manifest") {
  const TemporaryFolder folder;
  const std::string manifest = graded_photos(folder);
  CHECK(lines_of(content(manifest)).size() == 7);
  for (int level = 1; level <= 5; ++level)
    CHECK(fs::exists(folder / ("a_blur_" + std::to_string(level) + ".png")));

  const std::string json = folder / "r.json", csv = folder / "r.csv", html = folder / "r.html";
  const Words eval{"eval", "--data", manifest, "--scale", "0:100"};
  for (const auto& output : {json, csv, html}) {
    Words words = eval;
    words.insert(words.end(), {"-o", output, "--json"});
    const auto outcome = bench().with_model(words);
    CAPTURE(outcome.err);
    CHECK(outcome.code == 0);
    const auto metrics = outcome.json().at(0);
    CHECK(metrics["n"] == 6);
    CHECK(std::abs(metrics["srcc"].get<double>()) <= 1);
  }
  const auto report = nlohmann::json::parse(content(json));
  REQUIRE(report["photos"].size() == 6);
  const auto alone = bench().with_model({"score", "--json", folder / "a.png"}).json().at(0);
  CHECK(report["photos"][0]["score"] == alone["score"]);
  CHECK(report["photos"][0]["label"] == 100);
  CHECK(content(csv).find("\nimage,label,score,spread\n") != std::string::npos);
  const std::string page = content(html);
  CHECK(page.find("<svg") != std::string::npos);
  CHECK(page.find("<circle") != std::string::npos);
  CHECK(page.find("http") == std::string::npos);
  const auto text = bench().with_model(eval);
  for (const char* name : {"SRCC", "PLCC mapped", "KRCC", "RMSE"})
    CHECK(text.out.find(name) != std::string::npos);
  // The other direction turns the sign.
  Words lower = eval;
  lower.insert(lower.end(), {"--lower-is-better", "--json"});
  CHECK(bench().with_model(lower).json().at(0)["srcc"].get<double>() ==
        doctest::Approx(-report["metrics"]["srcc"].get<double>()));
}

TEST_CASE("eval says how true the intervals of a calibrated model are, on the whole and within subsets") {
  const TemporaryFolder folder;
  const std::string graded = graded_photos(folder), manifest = folder / "subsets.csv";
  std::string table;
  for (const std::string& line : lines_of(content(graded)))
    table += line + (table.empty() ? ",subset" : table.size() % 2 ? ",even" : ",odd") + "\n";
  write_file(manifest, table);
  const std::string html = folder / "r.html", json = folder / "r.json";
  const auto eval = [&](Words more) {
    Words words{"eval", "--data", manifest, "--scale", "0:100", "--device", "cpu", "--model", bench().calibrated_model};
    words.insert(words.end(), more.begin(), more.end());
    return bench().run(words);
  };
  CHECK(eval({"-o", json}).code == 0);
  const auto report = nlohmann::json::parse(content(json));
  const auto& intervals = report["metrics"]["intervals"];
  int inside = 0;
  double width = 0;
  for (const auto& row : report["photos"]) {
    inside += row["label"] >= row["low"] && row["label"] <= row["high"];
    width += row["high"].get<double>() - row["low"].get<double>();
  }
  CHECK(intervals["probability"] == 0.9);
  CHECK(intervals["coverage"].get<double>() == doctest::Approx(inside / 6.0));
  CHECK(intervals["mean_width"].get<double>() == doctest::Approx(width / 6).epsilon(1e-3));
  CHECK(intervals["reliability"].size() == 19);
  int64_t pairs = 0, members = 0;
  for (const auto& bin : intervals["pairs"]) pairs += bin["n"].get<int64_t>();
  CHECK(pairs == 15);
  for (const auto& subset : intervals["subsets"]) members += subset["n"].get<int64_t>();
  CHECK(members == 6);
  CHECK(eval({"-o", html, "--interval", "0.5"}).code == 0);
  const std::string page = content(html);
  for (const char* what : {"coverage of the 50% interval", "share of opinions inside", "share of pairs where it is", "over width of the interval"})
    CHECK(page.find(what) != std::string::npos);
  CHECK(eval({}).out.find("90% interval coverage ") != std::string::npos);
  check_refused(eval({"--interval", "2"}), 2, "--interval: 2 is not inside 0..1");
}

TEST_CASE("a report escapes what it quotes") {
  const TemporaryFolder folder;
  const std::string manifest = graded_photos(folder), odd = folder / "<b>&.csv";
  fs::copy(manifest, odd);
  CHECK(bench().with_model({"eval", "--data", odd, "-o", folder / "r.html"}).code == 0);
  const std::string page = content(folder / "r.html");
  CHECK(page.find("<b>&.csv") == std::string::npos);
  CHECK(page.find("&lt;b&gt;&amp;.csv") != std::string::npos);
}

TEST_CASE("train fits, refuses to run over a run, and its model scores") {
  const TemporaryFolder folder;
  const std::string manifest = graded_photos(folder), out = folder / "run", config = folder / "c.json";
  write_file(config, R"({"epochs": 3, "batch": 2, "crops-per-image": 1, "schedule": "constant"})");
  const Words words{"train",       "--config", config, "--data",   manifest, "--init",
                    bench().model, "--out",    out,    "--epochs", "1",      "--scale",
                    "0:100",       "--warmup", "0",    "--device", "cpu"};
  const auto trained = bench().run(words);
  CAPTURE(trained.err);
  CHECK(trained.code == 0);
  CHECK(trained.out.find("last.safetensors") != std::string::npos);
  CHECK(nlohmann::json::parse(content(out + "/config.json"))["epochs"] == 1);
  check_refused(bench().run(words), 1, out + ": ");
  CHECK(bench().run({"train", "--out", out, "--resume", "--quiet"}).code == 0);
  const auto info = bench().run({"model", "info", "--json", out + "/last.safetensors"}).json().at(0);
  CHECK(info["name"] == "run");
  CHECK(info["command"].get<std::string>().find("--epochs 1") != std::string::npos);
  CHECK(info["schedule"].is_null());
  CHECK(bench().run({"score", bench().a, "--model", out + "/last.safetensors"}).code == 0);
  write_file(config, R"({"epoch": 3})");
  check_refused(bench().run(words), 1, config + ": ");
}

TEST_CASE("a warm-up longer than the first step of the curve warns, and its results say so") {
  const TemporaryFolder folder;
  const std::string manifest = graded_photos(folder), out = folder / "run", model = out + "/last.safetensors";
  const auto trained =
      bench().run({"train", "--data",   manifest, "--init",   bench().model, "--out",
                   out,     "--epochs", "1",      "--batch",  "2",           "--crops-per-image",
                   "1",     "--scale",  "0:100",  "--warmup", "0.5",         "--device",
                   "cpu",   "--quiet"});
  CAPTURE(trained.err);
  CHECK(trained.code == 0);
  CHECK(trained.err.find("--warmup 0.5 is longer than the first step") != std::string::npos);
  CHECK(trained.err.find("(0.333 of 1 epochs)") != std::string::npos);
  CHECK(trained.out.find("(schedule truncated)") != std::string::npos);
  const std::string log = content(out + "/log.jsonl");
  CHECK(nlohmann::json::parse(lines_of(log).back())["schedule"] == "truncated");
  CHECK(bench().run({"model", "info", "--json", model}).json().at(0)["schedule"] == "truncated");
  CHECK(bench()
            .run({"eval", "--data", manifest, "--scale", "0:100", "--model", model, "-o", folder / "r.csv"})
            .code == 0);
  CHECK(content(folder / "r.csv").find("\n# schedule: truncated\n") != std::string::npos);
}

TEST_CASE("bench counts what the mathematics needs") {
  if (kSanitized) QFM_SKIP("a sanitized build has no speed to measure");
  const TemporaryFolder folder;
  const auto outcome = bench().run({"bench", "model", "--arch", "vit-tiny", "--batch", "1", "--only",
                                    "backbone", "-o", folder / "b.json"});
  CHECK(outcome.code == 0);
  const auto report = nlohmann::json::parse(content(folder / "b.json"));
  REQUIRE(report["rows"].size() == 1);
  CHECK(report["rows"][0]["gflop"].get<double>() == doctest::Approx(2.51).epsilon(0.005));
  for (const char* key : {"device", "driver", "date", "command", "threads", "dtype", "path", "commit",
                          "peak_gflops", "peak_by", "copy_gbs"})
    CHECK_MESSAGE(report.contains(key), key);
  check_refused(bench().run({"bench", "model", "--only", "nothing", "-o", folder / "b.txt"}), 2, ".json");
  CHECK(report["peak_of"] == "f32 FMA");
  const auto again = [&](const std::string& dtype) {
    return bench().run({"bench", "model", "--device", "cpu", "--arch", "vit-tiny", "--batch", "1", "--only",
                        "backbone", "--dtype", dtype, "--peaks", folder / "b.json", "-o", folder / "c.json"});
  };
  CHECK(again("f32").code == 0);
  const auto second = nlohmann::json::parse(content(folder / "c.json"));
  CHECK(second["peak_gflops"] == report["peak_gflops"]);
  CHECK(second["peaks_from"] == folder / "b.json");
  check_refused(again("bf16"), 2, "of dtype \"f32\", here it is \"bf16\"");
}

TEST_CASE("bench train sets the method's step beside the baseline's") {
  if (kSanitized) QFM_SKIP("a sanitized build has no speed to measure");
  const TemporaryFolder folder;
  const std::vector<std::string> words = {
      "bench",    "train", "--device", "cpu",
      "--batch",  "1",     "--match",  "matched",
      "--select", "on",    "-o",       folder / "b.json",
      "--ema",    "0.9",   "--only",   "select, matched, averaged student"};
  CHECK(bench().run(words).code == 0);
  const auto report = nlohmann::json::parse(content(folder / "b.json"));
  REQUIRE(report["rows"].size() == 1);
  CHECK(report["rows"][0]["times_baseline"].get<double>() > 0.5);
  check_refused(bench().run({"bench", "train", "--w-distil-feat", "1"}), 2, "--w-distil-feat: needs --ema");
}

constexpr int kPlanned = kSanitized ? 5 : 28;  // images in the batch of plan(), which is computed once
const nlohmann::json& plan() {
  static const nlohmann::json one = [] {
    const TemporaryFolder folder;
    const std::string path = folder / "plan.json";
    const auto outcome = bench().run({"bench", "kernels", "--plan", "--arch", "vit-tiny", "--batch",
                                      std::to_string(kPlanned), "-o", path});
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    return nlohmann::json::parse(content(path));
  }();
  return one;
}

// GFLOP of an image in the matrix products of a step.
double matrix_gflop(const nlohmann::json& rows) {
  double flops = 0;
  for (const auto& row : rows) {
    const auto name = row["name"].get<std::string>();
    if (name.starts_with("linear") || name.starts_with("attention")) flops += row["flops"].get<double>();
  }
  return flops / 1e9 / kPlanned;
}

TEST_CASE("the plan of a step adds up to what the mathematics needs") {
  // 2.51 and 7.46 for the backbone, 0.036 and its triple for the query decoder.
  CHECK(matrix_gflop(plan()["inference"]) == doctest::Approx(2.51 + 0.036).epsilon(0.005));
  CHECK(matrix_gflop(plan()["rows"]) == doctest::Approx(7.46 + 3 * 0.036).epsilon(0.005));
  std::map<std::string, nlohmann::json> method;
  for (const auto& row : plan()["method"]) method[row["name"]] = row;
  for (const char* op : {"multiply", "cosine", "gather_tokens", "nearest_match", "perturb"}) {
    CAPTURE(op);
    REQUIRE(method.count(op) == 1);
    CHECK(method[op]["bytes"] > 0);
  }
  // Each of the batch against four batches, descriptors of 192.
  CHECK(method["nearest_match"]["flops"].get<double>() ==
        doctest::Approx(2.0 * 4 * kPlanned * kPlanned * 192));
}

// The functions that the headers of kernels/*.cu declare; NAME_own is what NAME comes to without a library.
std::set<std::string> kernel_functions() {
  std::set<std::string> names;
  for (const auto& file : fs::recursive_directory_iterator(std::string(QFM_SOURCE_DIR) + "/kernels")) {
    if (file.path().extension() != ".h" || !fs::exists(fs::path(file).replace_extension(".cu"))) continue;
    const std::string source = read_text(file.path());
    for (size_t at = 0; (at = source.find("(Cuda,", at)) != std::string::npos; ++at) {
      const size_t before = source.find_last_of(" \n", at);
      const std::string name = source.substr(before + 1, at - before - 1);
      if (!name.ends_with("_own")) names.insert(name);
    }
  }
  return names;
}

TEST_CASE("every kernel has a case in bench kernels, with its costs") {
  std::set<std::string> timed;
  for (const auto& row : plan()["kernels"]) {
    CAPTURE(row.dump());
    CHECK(row["bytes"] > 0);
    CHECK(row["floor_us_h100"] > 0);
    timed.insert(row["kernel"].get<std::string>());
  }
  const auto declared = kernel_functions();
  CHECK(declared.size() > 50);
  for (const std::string& name : declared) {
    CAPTURE(name);
    CHECK(timed.count(name) == 1);
  }
}

TEST_CASE("bench kernels times a kernel") {
  if (kSanitized) QFM_SKIP("a sanitized build has no speed to measure");
  const auto outcome = bench().run(
      {"bench", "kernels", "--device", "cpu", "--arch", "vit-tiny", "--batch", "1", "--only", "qkv.dw"});
  CHECK(outcome.code == 0);
  CHECK(outcome.out.find("576x192x197") != std::string::npos);
  const auto none = bench().run({"bench", "kernels", "--device", "cpu", "--only", "nothing"});
  CHECK(none.code == 1);
  CHECK(none.talk() == std::vector<std::string>{"qfm: --only nothing: no kernel has this in its name"});
}

TEST_CASE("bench kernels marks a kernel that fails, times the others, and ends with 1") {
  if (kSanitized) QFM_SKIP("a sanitized build has no speed to measure");
  const TemporaryFolder folder;
  // Room for the numbers of such a batch of photos, not for its activations.
  const auto outcome =
      bench().spawn({"sh", "-c", "ulimit -v 1500000; exec \"$@\"", "sh", QFM_PROGRAM, "bench", "kernels",
                     "--device", "cpu", "--threads", "1", "--arch", "vit-base", "--batch", "4096", "--only",
                     "noise_", "-o", folder / "r.json"},
                    "", "");
  CAPTURE(outcome.out);
  CAPTURE(outcome.err);
  CHECK(outcome.code == 1);
  REQUIRE(outcome.talk().size() == 1);
  CHECK(outcome.talk()[0].starts_with("qfm: bench kernels: 1 could not be measured"));
  CHECK(contains(outcome.out, "failed: out of memory on "));
  std::map<std::string, nlohmann::json> rows;
  const auto report = nlohmann::json::parse(content(folder / "r.json"));
  for (const auto& row : report["rows"]) rows[row["name"]] = row;
  CHECK(contains(rows["noise_drawn"]["error"].get<std::string>(), "out of memory on "));
  CHECK_FALSE(rows["noise_drawn"].contains("median_ms"));
  CHECK(rows["noise_weights"]["median_ms"] > 0);
}

#ifdef QFM_CUDA_HOST
TEST_CASE("bench kernels times kernels of CUDA, those with arguments of their own too") {
  for (const char* name :
       {"residual_layernorm", "crop_normalise", "nearest_match", "softmax.backward", "adamw"}) {
    const TemporaryFolder folder;
    const std::string path = folder / "report.json";
    const auto outcome = bench().run({"bench", "kernels", "--device", "cuda", "--dtype", "bf16", "--arch",
                                      "vit-tiny", "--batch", "1", "--only", name, "-o", path});
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    const auto rows = nlohmann::json::parse(content(path))["rows"];
    REQUIRE(rows.size() >= 1);
    CHECK(rows[0]["gbs"] > 0);
  }
}

TEST_CASE("bench kernels climbs a study ladder, a vendor's library first") {
  const TemporaryFolder folder;
  const auto outcome = bench().run({"bench", "kernels", "--device", "cuda", "--arch", "vit-tiny", "--batch",
                                    "1", "--only", "ladder.layernorm", "-o", folder / "report.json"});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const auto ladders = nlohmann::json::parse(content(folder / "report.json"))["ladders"];
  REQUIRE(ladders.size() == 1);
  CHECK(ladders[0]["shape"] == "197x192");
  CHECK(ladders[0]["peak_by"] == "own");
  CHECK(ladders[0]["peak_of"] == "product of 128, BF16");
  const auto& rows = ladders[0]["rows"];
  CHECK(rows.size() == 6);
  CHECK(rows[0]["name"] == "cuDNN");
  CHECK(rows[0]["available"] == false);
  CHECK(rows.back()["name"] == "shipped");
  CHECK(rows.back()["median_ms"] > 0);
}
#endif

}  // namespace
}  // namespace qfm::test
