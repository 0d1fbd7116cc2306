// The tables of qfm experiment, made of result lines that are written here: no run is made.
#include <set>

#include "tests/tools/run_qfm.h"

namespace qfm::test {
namespace {

using nlohmann::json;

// Two variants, `seeds` seeds.
json plan(int seeds) {
  return {{"name", "toy"},
          {"seeds", seeds},
          {"data", {{{"name", "photos"}, {"data", "photos.csv"}, {"scale", "0:100"}}}},
          {"variants", {{{"name", "plain"}}, {{"name", "full"}}}}};
}

// A finished run; an SRCC that is not given is undefined.
json line(const std::string& variant, int seed, std::optional<double> srcc) {
  const json figure = srcc ? json(*srcc) : json();
  return {{"id", "photos/" + variant + "/share-1/seed-" + std::to_string(seed)},
          {"key", "k"},
          {"data", "photos"},
          {"variant", variant},
          {"label_share", 1},
          {"seed", seed},
          {"split_sha256", "5911"},
          {"version", "0.1.0"},
          {"commit", "abc"},
          {"srcc", figure},
          {"plcc", figure},
          {"plcc_mapped", figure},
          {"krcc", figure},
          {"rmse_mapped", 10},
          {"seconds", 60},
          {"losses", {3, 2}},
          {"scores", {1, 2, 3}}};
}

// What `qfm experiment --report` prints of these lines.
struct Report {
  TemporaryFolder folder;
  Outcome outcome;
  Report(const json& plan, const std::vector<json>& lines) {
    write_file(folder / "toy.json", plan.dump());
    std::filesystem::create_directory(folder / "out");
    std::string text;
    for (const auto& l : lines) text += l.dump() + "\n";
    write_file(folder / "out/results.jsonl", text);
    outcome = bench().run({"experiment", folder / "toy.json", "--root", folder.path, "--out", folder / "out",
                           "--device", "cpu", "--quiet", "--report"});
  }
  bool says(const std::string& text) const { return outcome.out.find(text) != std::string::npos; }
  std::string page() const { return content(folder / "out/table.html"); }
};

TEST_CASE("an undefined SRCC is told of in cells and pairs, never taken as 0") {
  std::vector<json> lines;
  for (int seed = 0; seed < 4; ++seed) {
    lines.push_back(line("plain", seed, 0.5));
    lines.push_back(line("full", seed, seed < 2 ? std::nullopt : std::optional(0.75)));
  }
  const Report some(plan(4), lines);
  CAPTURE(some.outcome.out);
  CHECK(some.says("| plain | 4 of 4 | 0.5000 (0.5000 to 0.5000) |"));
  CHECK(some.says("| full | 4 of 4 | 0.7500 (0.7500 to 0.7500), 2 of 4 undefined |"));
  CHECK(
      some.says("SRCC +0.2500 (median of 2 paired runs, from +0.2500 to +0.2500); 2 pairs left out, the "
                "SRCC undefined;"));
  CHECK(some.page().find("full (2 undefined)") != std::string::npos);
  const Report none(plan(2), {line("plain", 0, 0.5), line("full", 0, {})});
  CHECK(none.says("| full | 1 of 2 | undefined | undefined |"));
  CHECK(none.says("full against plain: 1 pair left out, the SRCC undefined.\n"));
  CHECK_FALSE(none.says("0.0000"));
}

TEST_CASE("every seed and label share has a row with the differences to the baseline") {
  json shares = plan(3);
  shares["label-shares"] = {0.5, 1};
  auto half = line("full", 1, 0.625);
  half["label_share"] = 0.5, half["id"] = "photos/full/share-0.5/seed-1";
  const Report report(shares, {line("plain", 0, 0.5), line("full", 0, 0.75), half, line("full", 1, {})});
  CAPTURE(report.outcome.out);
  CHECK(
      report.says("### photos: SRCC of each seed (difference to plain)\n\n| seed | labels | plain | full |\n"
                  "|---|---|---|---|\n| 0 | 100% | 0.5000 | 0.7500 (+0.2500) |\n| 1 | 50% | - | 0.6250 |\n"
                  "| 1 | 100% | - | undefined |\n"));
  CHECK(report.page().find("<tr><td>0</td><td>100%</td><td>0.5000</td><td>0.7500 (+0.2500)</td></tr>") !=
        std::string::npos);
}

TEST_CASE("a difference that rounds to nothing has no minus sign") {
  const Report report(plan(1), {line("plain", 0, 0.5), line("full", 0, 0.49996)});
  CAPTURE(report.outcome.out);
  CHECK(report.says("| 0 | 100% | 0.5000 | 0.5000 (+0.0000) |"));
  CHECK(report.says("full against plain: SRCC +0.0000 (median of 1 paired run, from +0.0000 to +0.0000)"));
}

TEST_CASE("protocol and splits are printed; lines of another protocol are refused") {
  auto first = line("plain", 0, 0.5), second = line("full", 0, 0.75), third = line("plain", 1, 0.5);
  const Report one(plan(2), {first, second, third});
  CHECK(one.says("- Split (SHA-256) 5911: all runs.\n"));
  CHECK_FALSE(one.says("paper"));
  third["split_sha256"] = "77aa";
  json paper = plan(2);
  paper["protocol"] = "paper";
  for (auto* l : {&first, &second}) (*l)["protocol"] = "paper", (*l)["crops"] = "grid";
  const Report two(paper, {first, second, third});  // the third is of before lines had their protocol
  CAPTURE(two.outcome.out);
  CHECK(two.says("## photos, protocol paper\n"));
  CHECK(two.says("(difference to plain), protocol paper\n"));
  CHECK(two.says("- Split (SHA-256) 5911: seed 0.\n- Split (SHA-256) 77aa: seed 1.\n"));
  CHECK(two.page().find("<h2>photos, protocol paper</h2>") != std::string::npos);
  CHECK(two.page().find("77aa: seed 1") != std::string::npos);
  check_refused(Report(plan(2), {first}).outcome, 1,
                "run photos/plain/share-1/seed-0 was made with protocol paper and crops grid");
}

TEST_CASE("figures of a truncated schedule are marked") {
  json cut = plan(1);
  cut["variants"][1]["flags"] = {{"epochs", 5}, {"warmup", 3}};
  const Report report(cut, {line("plain", 0, 0.5), line("full", 0, 0.75)});
  CAPTURE(report.outcome.out);
  CHECK(report.says("Truncated: the warm-up was longer than the first step"));
  CHECK(report.says("| full (truncated) | 1 of 1 |"));
  CHECK(report.says("| seed | labels | plain | full (truncated) |"));
  CHECK_FALSE(report.says("plain (truncated)"));
  cut["variants"][1]["flags"] = {{"epochs", 5}, {"warmup", 1.67}};
  CHECK_FALSE(Report(cut, {line("plain", 0, 0.5)}).says("runcated"));
}

TEST_CASE("twelve lines of a chart are told apart, and long names are not cut") {
  json many = plan(1);
  const std::string name = "wide, light, little noise, no search";
  std::vector<json> lines;
  for (int i = 0; i < 12; ++i) {
    const std::string variant = i < 2 ? (i == 0 ? "plain" : "full") : std::to_string(i) + " " + name;
    if (i >= 2) many["variants"].push_back({{"name", variant}});
    lines.push_back(line(variant, 0, 0.5));
  }
  const std::string page = Report(many, lines).page();
  std::set<std::string> looks;
  for (int i = 0; i < 12; ++i) {
    const std::string group = "<g class=\"s" + std::to_string(i) + "\"><polyline stroke-dasharray=\"";
    const size_t at = page.find(group);
    REQUIRE(at != std::string::npos);
    const std::string colour = "--s" + std::to_string(i) + ":";
    const size_t light = page.find(colour), dark = page.find(colour, light + 1);
    REQUIRE(dark != std::string::npos);
    looks.insert(page.substr(light + colour.size(), 7));
    looks.insert(page.substr(dark + colour.size(), 7));
  }
  CHECK(looks.size() == 24);
  const size_t chart = page.find("aria-label=\"line chart\""), view = page.rfind("viewBox=\"0 0 ", chart);
  CHECK(std::stod(page.substr(view + 13)) > 532 + 6 * static_cast<double>(name.size() + 3));
}

TEST_CASE("six pairs are tested by Wilcoxon, fewer are exploratory") {
  const auto sentence = [](const std::vector<std::optional<double>>& full) {
    std::vector<json> lines;
    for (int seed = 0; seed < static_cast<int>(full.size()); ++seed) {
      lines.push_back(line("plain", seed, 0.5));
      lines.push_back(line("full", seed, full[static_cast<size_t>(seed)]));
    }
    for (const auto& text : Report(plan(static_cast<int>(full.size())), lines).outcome.lines())
      if (text.starts_with("- full against plain: ")) return text;
    return std::string();
  };
  CHECK(sentence({0.6, 0.61, 0.62, 0.63, 0.64, 0.65}) ==
        "- full against plain: SRCC +0.1250 (median of 6 paired runs, from +0.1000 to +0.1500); the photos' "
        "labels are not at hand; Wilcoxon signed ranks, two-sided, p = 0.0312: better.");
  CHECK(sentence({0.4, 0.41, 0.42, 0.43, 0.44, 0.45}).ends_with("p = 0.0312: worse."));
  CHECK(sentence({0.6, 0.61, 0.62, 0.37, 0.36, 0.35}).ends_with(": no difference shown."));
  CHECK(sentence({0.5, 0.5, 0.5, 0.5, 0.5, 0.5}).ends_with("All pairs are equal."));
  CHECK(sentence({0.6, 0.61, 0.62, 0.63, 0.64, {}}).ends_with("Exploratory: too few pairs for a p-value."));
}

}  // namespace
}  // namespace qfm::test
