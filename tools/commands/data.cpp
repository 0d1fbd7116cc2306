// qfm data: data sets checked, splits, and the normalised manifest.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "engine/base/io.h"
#include "engine/base/sha256.h"
#include "engine/base/threads.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/data_options.h"
#include "tools/cli/results.h"
#include "tools/cli/version.h"
#include "train/data/csv.h"
#include "train/data/dataset_check.h"
#include "train/data/manifest.h"
#include "train/data/split.h"

namespace qfm {
namespace {

struct DataCommand {
  CommonOptions common;
  DataOptions data;
  double test = 0.2;
  std::string output;
  bool json = false;
};

// ---- check ----

const char* word(Finding::Verdict verdict) {
  if (verdict == Finding::Verdict::Fine) return "ok";
  return verdict == Finding::Verdict::Note ? "note" : "WRONG";
}

std::string text_of(const std::vector<Finding>& findings) {
  constexpr size_t kShown = 10;
  std::string text;
  for (const auto& finding : findings) {
    text += format("%-6s %-11s %s\n", word(finding.verdict), finding.about.c_str(), finding.text.c_str());
    for (size_t i = 0; i < std::min(kShown, finding.items.size()); ++i)
      text += "                     " + one_line(finding.items[i]) + "\n";
    if (finding.items.size() > kShown)
      text += format("                     ... and %zu more (-o report.json has all)\n",
                     finding.items.size() - kShown);
  }
  return text;
}

Json report_of(const DataCommand& command, const Dataset& set, const std::vector<Finding>& findings) {
  Json rows = Json::array();
  for (const auto& finding : findings)
    rows.push_back({{"about", finding.about},
                    {"verdict", word(finding.verdict)},
                    {"text", finding.text},
                    {"items", finding.items}});
  return {{"header",
           {{"tool", "qfm"},
            {"version", version()},
            {"commit", commit()},
            {"data", command.data.data},
            {"fold", command.data.set.fold},
            {"photos", set.samples.size()},
            {"label_low", set.range.low},
            {"label_high", set.range.high},
            {"higher_is_better", set.higher_is_better},
            {"split_sha256", set.split_sha256}}},
          {"healthy", passed(findings)},
          {"findings", rows}};
}

int check(const DataCommand& command) {
  if (!command.output.empty()) checked_extension(command.output, ".json");
  DatasetOptions how = checked(command.data);
  set_threads(command.common.threads);
  std::vector<RowProblem> problems;
  how.problems = &problems;
  const Dataset set = load_dataset(command.data.data, how);
  Progress progress(command.common.quiet, "photos", static_cast<int64_t>(set.samples.size()));
  const auto findings =
      check_dataset(set, problems, {threads(), [&](int64_t done) { progress.update(done); }});
  progress.clear();
  const Json report = report_of(command, set, findings);
  print(command.json ? to_line(report) : text_of(findings));
  if (!command.output.empty()) write_file(command.output, to_line(report));
  note(command.common.quiet,
       format("%zu photos, %.1f a second\n", set.samples.size(),
              static_cast<double>(set.samples.size()) / std::max(progress.seconds(), 1e-9)));
  return !passed(findings);
}

// ---- split, list ----

// To -o FILE, or to stdout.
void give(const DataCommand& command, const std::string& text) {
  command.output.empty() ? print(text) : write_file(command.output, text);
}

int split(const DataCommand& command) {
  if (!(command.test > 0 && command.test < 1)) throw UsageError("--test: expected a fraction inside 0..1");
  const Dataset set = load_dataset(command.data.data, checked(command.data));
  const auto [train, test] = split_fraction(set, command.test, command.common.seed);
  QFM_CHECK(std::min(train.samples.size(), test.samples.size()) >= 3, command.data.data, ": parts of ",
            train.samples.size(), " and ", test.samples.size(), " photos, at least 3 each are needed");
  const std::string text = split_text(set, command.test, command.common.seed);
  give(command, text);
  const std::vector<unsigned char> bytes(text.begin(), text.end());
  note(command.common.quiet, "SHA-256 " + sha256(bytes) + "\n");
  return 0;
}

int list(const DataCommand& command) {
  if (!command.output.empty()) checked_extension(command.output, ".csv");
  const Dataset set = load_dataset(command.data.data, checked(command.data));
  give(command, manifest_text(set, ImagesBy::Name));
  const std::string range =
      set.range_observed ? "" : "--scale " + number_text(set.range.low) + ":" + number_text(set.range.high);
  if (!range.empty() || !set.higher_is_better)
    note(command.common.quiet, "qfm: a manifest does not say it: " + range +
                                   (range.empty() || set.higher_is_better ? "" : " ") +
                                   (set.higher_is_better ? "" : "--lower-is-better") + "\n");
  return 0;
}

CLI::App* add_one(CLI::App& parent, const std::shared_ptr<DataCommand>& command, const std::string& name,
                  const std::string& description, const std::string& example) {
  CLI::App* app = add_subcommand(parent, name, description, example);
  add_data_options(*app, command->data, DataGiven::ByPlace);
  add_common_options(*app, command->common);
  return app;
}

}  // namespace

void add_data(CLI::App& parent, const RegisterAction& on) {
  CLI::App* data = add_subcommand(parent, "data", "Examine, split and list sets of scored photos",
                                  "qfm data check koniq10k:/data/koniq10k");
  data->require_subcommand(1);
  auto command = std::make_shared<DataCommand>();
  CLI::App* app = add_one(
      *data, command, "check",
      "Look at every label and every photo of a set, and say what is wrong.\n"
      "Counts against the published ones, rows that cannot be used, missing and unreadable files, range and "
      "direction of the labels, files of equal content, sides below 224; with a split: references and "
      "look-alikes "
      "on both sides. Exit code 1 when something is wrong.",
      "qfm data check koniq10k:/data/koniq10k -o report.json");
  app->add_flag("--json", command->json, "Print one JSON line");
  app->add_option("-o", command->output, "Also write the report, with every item: .json")->type_name("FILE");
  on(app, [command] { return check(*command); });

  command = std::make_shared<DataCommand>();
  app = add_one(
      *data, command, "split",
      "Draw a part for training and a part for testing, as text: 'train NAME' or 'test NAME' a line.\n"
      "By --seed; photos of one reference stay together. The same bytes on every machine; their SHA-256 "
      "stands in every result that uses the split. train --split FILE learns from the one part, eval "
      "--split FILE measures on the other.",
      "qfm data split koniq10k:/data/koniq10k --seed 3 -o split3.txt");
  app->add_option("--test", command->test, "Share of the photos, or references, to test on (default 0.2)")
      ->type_name("FRACTION");
  app->add_option("-o", command->output, "Write a file instead of standard output")->type_name("FILE");
  on(app, [command] { return split(*command); });

  command = std::make_shared<DataCommand>();
  app = add_one(*data, command, "list",
                "Print a set as a manifest: image,score,std,reference,split, whatever its own layout.\n"
                "Images are relative to the set's folder (use the manifest with --root FOLDER).",
                "qfm data list tid2013:/data/tid2013 -o tid2013.csv");
  app->add_option("-o", command->output, "Write a file instead of standard output: .csv")->type_name("FILE");
  on(app, [command] { return list(*command); });
}

}  // namespace qfm
