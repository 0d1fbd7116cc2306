// qfm experiment: what it refuses, that it goes on where it was, that its pairs are fair.
#include <stdlib.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <map>
#include <set>
#include <thread>

#include "tests/tools/run_qfm.h"
#include "tools/experiment/definition.h"

namespace qfm::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlan = R"({"name": "toy", "seeds": 2, "baseline": "plain",
  "data": [{"name": "photos", "data": "photos.csv", "scale": "0:100", "split": 0.5,
            "published": {"plain": {"srcc": 0.9}}}],
  "common": {"epochs": 1, "batch": 2, "crops-per-image": 1, "schedule": "constant", "warmup": 0, "init": "toy.safetensors"},
  "variants": [{"name": "plain"}, {"name": "faster", "flags": {"lr": 0.01}}]})";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

TEST_CASE("an experiment's file is checked before anything runs") {
  const Experiment e = parse_experiment(kPlan, "toy.json");
  CHECK(e.seeds == std::vector<int64_t>{0, 1});
  REQUIRE(runs_of(e).size() == 4);
  CHECK(runs_of(e)[3].id() == "photos/faster/share-1/seed-1");
  const auto refusal = [](const std::string& from, const std::string& to) {
    return message_of([&] { parse_experiment(replaced(kPlan, from, to), "toy.json"); });
  };
  const std::string seeds = "toy.json: seeds: a count from 1 to 1000, or a list without repetition";
  CHECK(refusal("\"seeds\": 2, ", "") == seeds);
  for (const char* wrong : {"0", "-1", "1.5", "1001", "[]", "[1, 1]", "[-1]", "[\"a\"]", "{}", "\"2\""})
    CHECK(refusal("\"seeds\": 2", std::string("\"seeds\": ") + wrong) == seeds);
  CHECK(refusal("\"lr\"", "\"lrr\"") == "toy.json: variant 2: flags: lrr: unknown key; did you mean 'lr'?");
  CHECK(refusal("\"lr\"", "\"seed\"") == "toy.json: variant 2: flags: seed is the experiment's to choose");
  CHECK(refusal("\"baseline\": \"plain\"", "\"baseline\": \"none\"") ==
        "toy.json: baseline: 'none' is no variant");
  CHECK(refusal("\"name\": \"faster\"", "\"name\": \"plain\"") == "toy.json: variants: plain: given twice");
  CHECK(refusal("\"name\": \"faster\"", "\"name\": \"../up\"") ==
        "toy.json: variants: '../up' cannot name a folder");
  CHECK(refusal("\"name\": \"faster\", ", "") == "toy.json: variants: '' cannot name a folder");
  CHECK(refusal("\"split\": 0.5", "\"split\": \"half\"") == "toy.json: data 1: split: is string, expected number");
  CHECK(refusal("\"srcc\"", "\"scrr\"") ==
        "toy.json: data 1: published: plain: scrr: unknown key");
  CHECK(refusal("\"seeds\": 2", "\"seeds\": 2, \"label-shares\": [0.5, \"all\"]") ==
        "toy.json: label-shares: \"all\" is not in (0, 1]");
  CHECK(refusal("\"split\": 0.5", "\"spilt\": 0.5") ==
        "toy.json: data 1: spilt: unknown key; did you mean 'split'?");
  CHECK(refusal("\"split\": 0.5", "\"split\": 1.5") == "toy.json: data 1: split: 1.5 is not inside 0..1");
  CHECK(message_of([] { parse_experiment("{", "toy.json"); }) == "toy.json: not valid JSON");
}

TEST_CASE("the experiments that come with the program can be read") {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(std::string(QFM_SOURCE_DIR) + "/train/experiments")) {
    if (entry.path().extension() != ".json") continue;
    CHECK_FALSE(
        runs_of(parse_experiment(content(entry.path().string()), entry.path().filename().string())).empty());
    ++files;
  }
  CHECK(files == 9);
}

// 8 photos: blurred copies of one another.
std::string photo_folder(const TemporaryFolder& folder) {
  std::string table = "image,score\n";
  for (int i = 0; i < 8; ++i) {
    Image image(224, 224);
    for (size_t k = 0; k < image.rgb.size(); ++k)
      image.rgb[k] = static_cast<uint8_t>(k * (k / 3 % (i + 2)) % 251);
    const auto png = encode_png(image);
    const std::string name = std::to_string(i) + ".png";
    write_file(folder / name, {reinterpret_cast<const char*>(png.data()), png.size()});
    table += name + "," + std::to_string(10 * i) + "\n";
  }
  write_file(folder / "photos.csv", table);
  return folder / "photos.csv";
}

TEST_CASE("a smaller share of the labels is part of a larger one; the tested photos stay") {
  const TemporaryFolder folder;
  ExperimentData data;
  data.name = "photos", data.data = photo_folder(folder), data.scale = {0, 100}, data.split = 0.5;
  const auto names = [](const Dataset& set) {
    std::set<std::string> all;
    for (const auto& s : set.samples) all.insert(s.name);
    return all;
  };
  const auto whole = split_for(data, 1, 3), part = split_for(data, 0.75, 3);
  CHECK(whole.train.samples.size() == 4);
  CHECK(part.train.samples.size() == 3);
  CHECK(names(part.test) == names(whole.test));
  const auto all = names(whole.train), some = names(part.train);
  CHECK(std::includes(all.begin(), all.end(), some.begin(), some.end()));
  CHECK(message_of([&] { split_for(data, 0.25, 3); }) == "photos: a part of 1 photos is too small");
}

TEST_CASE("settings are tuned on a part of the training photos: those kept for the end are not touched") {
  const TemporaryFolder folder;
  ExperimentData data;
  data.name = "photos", data.data = photo_folder(folder), data.scale = {0, 100}, data.split = 0.5;
  std::string table = "image,score,fold\n";
  for (int i = 0; i < 8; ++i)
    table += std::to_string(i) + ".png," + std::to_string(10 * i) + (i < 6 ? ",train\n" : ",val\n");
  write_file(data.data, table);
  data.train = "fold=train";
  const auto parts = split_for(data, 1, 3);
  CHECK(parts.train.samples.size() == 3);
  CHECK(parts.test.samples.size() == 3);
  for (const Dataset* part : {&parts.train, &parts.test})
    for (const auto& s : part->samples) CHECK(s.score < 60);
}

TEST_CASE("experiment runs what is missing, once, and compares pairs") {
  const TemporaryFolder folder;
  photo_folder(folder);
  fs::copy(bench().model, folder / "toy.safetensors");
  const std::string plan = folder / "toy.json", out = folder / "out", lines = out + "/results.jsonl";
  write_file(plan, kPlan);
  const std::vector<std::string> words{"experiment", plan,       "--root", folder.path, "--out",
                                       out,          "--device", "cpu",    "--quiet"};
  const auto first = bench().run(words);
  CAPTURE(first.err);
  REQUIRE(first.code == 0);
  const std::string done = content(lines);
  REQUIRE(lines_of(done).size() == 4);
  CHECK(first.out.find("| plain | 2 of 2 |") != std::string::npos);
  CHECK(first.out.find("0.900 / -") != std::string::npos);
  CHECK(first.out.find("faster against plain: SRCC") != std::string::npos);
  CHECK(first.out.find("too few pairs for a p-value") != std::string::npos);
  CHECK(content(out + "/table.md") == first.out);
  const std::string page = content(out + "/table.html");
  CHECK(page.find("<svg") != std::string::npos);
  CHECK(page.find("http") == std::string::npos);

  // Another experiment takes the runs that are its own, whatever it calls them, and makes the rest.
  const std::string other_plan = folder / "other.json", elsewhere = folder / "elsewhere";
  const std::string longer = replaced(kPlan, "\"seeds\": 2, \"baseline\": \"plain\"", "\"seeds\": 3");
  write_file(other_plan, replaced(longer, "\"name\": \"plain\"}", "\"name\": \"start\"}"));
  const auto third = bench().run({"experiment", other_plan, "--root", folder.path, "--out", elsewhere,
                                  "--device", "cpu", "--reuse", lines});
  CAPTURE(third.err);
  CHECK(third.code == 0);
  CHECK(third.err.find("4 runs were made before") != std::string::npos);
  CHECK(third.err.find("2 runs to do") != std::string::npos);
  CHECK(content(elsewhere + "/results.jsonl").find("\"photos/start/share-1/seed-1\"") != std::string::npos);

  // A line cut short by a crash is run again, the others are not.
  const auto all = lines_of(done);
  write_file(lines, all[0] + "\n" + all[1] + "\n" + all[2] + "\n" + all[3].substr(0, 40));
  CHECK(bench().run(words).code == 0);
  const auto again = lines_of(content(lines));
  REQUIRE(again.size() == 4);
  for (int i = 0; i < 3; ++i) CHECK(again[i] == all[i]);
  const auto figure = [](const std::string& line) { return nlohmann::json::parse(line)["scores"]; };
  CHECK(figure(again[3]) == figure(all[3]));

  // Without the data set there are no labels; the figures stay.
  CHECK(done.find("labels") == std::string::npos);
  auto report = words;
  report.back() = "--report";
  CHECK(bench().run(report).out == first.out);
  fs::rename(folder / "photos.csv", folder / "away.csv");
  const auto bare = bench().run(report);
  CHECK(bare.code == 0);
  CHECK(bare.err.find("tables without labels: photos.csv") != std::string::npos);
  CHECK(bare.out.find("the photos' labels are not at hand") != std::string::npos);
  fs::rename(folder / "away.csv", folder / "photos.csv");

  // Other labels or another start under the same names are another run; lines of before that was kept serve.
  const auto refused = [&] {
    const auto outcome = bench().run(words);
    return outcome.code == 1 &&
           outcome.err.find("other labels, --init, --teacher or --unlabelled") != std::string::npos;
  };
  const std::string labels = content(folder / "photos.csv"), start = content(folder / "toy.safetensors");
  write_file(folder / "photos.csv", replaced(labels, "7.png,70", "7.png,69"));
  CHECK(refused());
  write_file(folder / "photos.csv", labels);
  fs::copy(bench().dmos_model, folder / "toy.safetensors", fs::copy_options::overwrite_existing);
  CHECK(refused());
  std::string old_lines;
  for (const auto& l : again) {
    auto old = nlohmann::ordered_json::parse(l);
    for (const char* field : {"inputs", "protocol", "crops"}) CHECK(old.erase(field) == 1);
    old_lines += old.dump() + "\n";
  }
  write_file(lines, old_lines);
  CHECK(bench().run(words).out == first.out);
  write_file(folder / "toy.safetensors", start);

  write_file(plan, replaced(kPlan, "0.01", "0.02"));
  const auto changed = bench().run(words);
  CHECK(changed.code == 1);
  CHECK(changed.err.find("was made with other settings or photos") != std::string::npos);
}

TEST_CASE("an experiment killed at any moment, with or without its runs, loses no finished run") {
  const TemporaryFolder folder;
  photo_folder(folder);
  fs::copy(bench().model, folder / "toy.safetensors");
  const std::string plan = folder / "toy.json";
  write_file(plan, replaced(kPlan, "\"epochs\": 1", "\"epochs\": 20"));
  const auto command = [&](const std::string& out) {
    return std::vector<std::string>{"experiment", plan,  "--root",  folder.path, "--out", folder / out,
                                    "--device",   "cpu", "--quiet", "--jobs",    "2"};
  };
  const auto scores = [&](const std::string& out) {
    std::map<std::string, nlohmann::json> all;
    for (const auto& line : lines_of(content(folder / out + "/results.jsonl"))) {
      const auto run = nlohmann::json::parse(line);
      CHECK_MESSAGE(all.emplace(run["id"], run["scores"]).second, line);
    }
    return all;
  };
  REQUIRE(bench().run(command("whole")).code == 0);

  int kills = 0;
  std::string finished;
  // SIGKILL goes to the whole group, the experiment and the runs that are its children, or to the experiment
  // alone: its runs get the signal, and may still be saving when the next one begins.
  for (double seconds = 0.1;; seconds *= kSanitized ? 1.6 : 1.25) {
    std::vector<std::string> words{"timeout", "-s", "KILL", std::to_string(seconds), QFM_PROGRAM};
    if (kills % 2 != 0) words.insert(words.begin() + 1, "--foreground");
    for (const auto& word : command("killed")) words.push_back(word);
    const auto [code, out, err] = bench().spawn(words, "", "");
    CAPTURE(err);
    const std::string lines = folder / "killed/results.jsonl";
    const std::string now = fs::exists(lines) ? content(lines) : "";
    CHECK(now.starts_with(finished));
    finished = now.substr(0, now.rfind('\n') + 1);  // a line that was being written is made again
    if (code == 0) break;
    REQUIRE(code == 128 + SIGKILL);
    ++kills;
  }
  CHECK(kills >= 2);
  CHECK(scores("killed") == scores("whole"));
}

TEST_CASE("photos without labels are part of what a line serves for") {
  const TemporaryFolder folder;
  photo_folder(folder);
  fs::copy(bench().model, folder / "toy.safetensors");
  fs::create_directory(folder / "more");
  fs::copy(bench().a, folder / "more");
  const std::string plan = folder / "toy.json";
  std::string taught = replaced(kPlan, "\"seeds\": 2", "\"seeds\": 1");
  taught = replaced(taught, "{\"lr\": 0.01}",
                    "{\"teacher\": \"toy.safetensors\", \"unlabelled\": \"more\", \"pseudo-ratio\": 0.5}");
  write_file(plan, taught);
  const auto again = [&] {
    return bench().run(
        {"experiment", plan, "--root", folder.path, "--out", folder / "out", "--device", "cpu"});
  };
  const auto first = again();
  CAPTURE(first.err);
  REQUIRE(first.code == 0);
  CHECK(again().out == first.out);
  fs::copy(bench().b, folder / "more");
  const auto refused = again();
  CHECK(refused.code == 1);
  CHECK(refused.err.find("--unlabelled: give another") != std::string::npos);
}

TEST_CASE("an experiment of six pairs ends in a test; protocol paper says so wherever it prints") {
  const TemporaryFolder folder;
  photo_folder(folder);
  fs::copy(bench().model, folder / "toy.safetensors");
  write_file(folder / "toy.json", replaced(kPlan, "\"seeds\": 2", "\"seeds\": 6, \"protocol\": \"paper\""));
  const auto outcome = bench().run(
      {"experiment", folder / "toy.json", "--root", folder.path, "--out", folder / "out", "--device", "cpu"});
  CAPTURE(outcome.err);
  CAPTURE(outcome.out);
  REQUIRE(outcome.code == 0);
  const auto says = [&](const std::string& text) { return outcome.out.find(text) != std::string::npos; };
  CHECK(says("(median of 6 paired runs, from "));
  CHECK(says("drawing the photos anew"));
  CHECK(says("; Wilcoxon signed ranks, two-sided, p = "));
  CHECK(says("Protocol paper (the best epoch is chosen on the part that it is measured on)"));
  CHECK(says("## photos, protocol paper\n"));
  CHECK(says("### photos: SRCC of each seed (difference to plain), protocol paper\n"));
  CHECK(says(": seed 5.\n"));  // a split of its own
  for (const auto& text : outcome.talk())
    if (text.find("  SRCC ") != std::string::npos) CHECK(text.ends_with("(protocol paper)"));
  for (const auto& text : lines_of(content(folder / "out/results.jsonl")))
    CHECK(nlohmann::json::parse(text).at("protocol") == "paper");
}

TEST_CASE("a run that fails is told of, the others go on") {
  const TemporaryFolder folder;
  photo_folder(folder);
  fs::copy(bench().model, folder / "toy.safetensors");
  write_file(folder / "toy.json", replaced(kPlan, "\"lr\": 0.01", "\"init\": \"none.safetensors\""));
  const auto outcome = bench().run({"experiment", folder / "toy.json", "--root", folder.path, "--out",
                                    folder / "out", "--device", "cpu", "--quiet"});
  CHECK(outcome.code == 1);
  CHECK(lines_of(content(folder / "out/results.jsonl")).size() == 2);
  CHECK(outcome.err.find("none.safetensors") != std::string::npos);
  CHECK(outcome.err.find("2 of 4 runs done, 2 failed; the same command goes on") != std::string::npos);
}

// What the program writes to a terminal.
std::string terminal_talk(const std::string& command) {
  const int ours = ::posix_openpt(O_RDWR | O_NOCTTY);
  REQUIRE(ours >= 0);
  REQUIRE(::grantpt(ours) == 0);
  REQUIRE(::unlockpt(ours) == 0);
  const std::string name = ::ptsname(ours);
  const int theirs = ::open(name.c_str(), O_RDWR | O_NOCTTY);  // held open, so that no output is lost
  REQUIRE(theirs >= 0);
  std::string talk;
  std::thread listener([&] {  // all the while: a terminal that is not read stops the program
    char part[4096];
    while (talk.find("end of talk") == std::string::npos) {
      const ssize_t n = ::read(ours, part, sizeof part);
      if (n <= 0) return;
      talk.append(part, static_cast<size_t>(n));
    }
  });
  const auto outcome =
      bench().spawn({"sh", "-c", command + " 2>" + name + "; echo end of talk >" + name}, "", "");
  listener.join();
  ::close(theirs), ::close(ours);
  CHECK(outcome.code == 0);
  return talk;
}

TEST_CASE("progress counts the epochs of all runs and says how much time is left") {
  const TemporaryFolder folder;
  photo_folder(folder);
  fs::copy(bench().model, folder / "toy.safetensors");
  write_file(folder / "toy.json", kPlan);
  const std::string plan = folder / "toy.json", root = folder.path, out = folder / "out";
  const std::string talk = terminal_talk(std::string(QFM_PROGRAM) + " experiment " + plan + " --root " +
                                         root + " --out " + out + " --device cpu --jobs 1");
  CAPTURE(talk);
  CHECK(talk.find(" of 4 epochs, ") != std::string::npos);
  CHECK(talk.find(" left, ") != std::string::npos);
  CHECK(talk.find(" of 4 runs done") != std::string::npos);
  CHECK(talk.find("photos/plain/share-1/seed-0  SRCC ") != std::string::npos);
  CHECK(talk.find(", 0.0 a second") == std::string::npos);
}

TEST_CASE("the arithmetic is a setting of the variants, which decides what a line serves for") {
  const TemporaryFolder folder;
  write_file(folder / "toy.json", kPlan);
  check_refused(bench().run({"experiment", folder / "toy.json", "--dtype", "bf16"}), 2,
                "--dtype bf16: a setting of the variants");
}

}  // namespace
}  // namespace qfm::test
