#include "tools/experiment/report.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/base/error.h"
#include "tools/cli/charts.h"
#include "tools/cli/console.h"
#include "train/metrics/metrics.h"
#include "train/metrics/paired_tests.h"

namespace qfm {
namespace {

constexpr size_t kPairsForP = 6;  // fewer cannot reach p < 0.05 whatever their signs
constexpr double kSignificant = 0.05;

using Rows = std::vector<std::vector<std::string>>;
using Runs = std::vector<const RunResult*>;
using Figure = std::optional<double> (*)(const RunResult&);

std::optional<double> srcc_of(const RunResult& r) { return r.srcc; }

// The figures that are defined; scores that are all equal have no correlation.
std::vector<double> values_of(const Runs& runs, Figure figure) {
  std::vector<double> values;
  for (const auto* r : runs)
    if (const auto value = figure(*r)) values.push_back(*value);
  return values;
}

std::string label_of(const ExperimentVariant& v) {
  return v.name + (v.truncated_schedule ? " (truncated)" : "");
}

const char* plural(size_t n) { return n == 1 ? "" : "s"; }

// "+0.0205", to four decimals; never "-0.0000".
std::string difference_text(double value) { return format("%+.4f", std::round(value * 1e4) / 1e4 + 0.0); }

// One table: a data set at a share of its labels.
struct TableRuns {
  const Experiment& experiment;
  const std::vector<RunResult>& results;
  const ExperimentData& data;
  double share;

  // null: there is no such run yet.
  const RunResult* find(const std::string& variant, int64_t seed) const {
    for (const RunResult& r : results)
      if (r.data == data.name && r.label_share == share && r.variant == variant && r.seed == seed) return &r;
    return nullptr;
  }
  // By seed, in the order of the experiment's seeds.
  Runs of(const std::string& variant) const {
    Runs runs;
    for (int64_t seed : experiment.seeds)
      if (const auto* r = find(variant, seed)) runs.push_back(r);
    return runs;
  }
};

// ---- a variant against the baseline ----

// Ends the sentence before it.
std::string verdict(const std::vector<double>& differences) {
  if (differences.size() < kPairsForP) return ". Exploratory: too few pairs for a p-value.";
  const auto test = wilcoxon(differences);
  if (!test) return ". All pairs are equal.";
  const char* word = test->p >= kSignificant   ? "no difference shown"
                     : median(differences) > 0 ? "better"
                                               : "worse";
  return format("; Wilcoxon signed ranks, two-sided, p = %.4f: %s.", test->p, word);
}

// SRCC of the pairs of one seed: their median difference, how it varies, the test.
std::string comparison(const TableRuns& table, const std::string& variant) {
  std::vector<double> differences;
  PairedRuns photos;
  size_t undefined = 0;
  for (const RunResult* r : table.of(variant)) {
    const RunResult* b = table.find(table.experiment.baseline, r->seed);
    if (!b || r->split != b->split) continue;
    if (r->srcc && b->srcc) differences.push_back(*r->srcc - *b->srcc);
    else ++undefined;
    if (!r->srcc || !b->srcc || r->labels.empty() || b->labels.empty()) continue;
    photos.a.push_back(r->scores), photos.b.push_back(b->scores), photos.labels.push_back(r->labels);
  }
  const std::string who = variant + " against " + table.experiment.baseline + ": ";
  std::string left_out;
  if (undefined) left_out = format("%zu pair%s left out, the SRCC undefined", undefined, plural(undefined));
  if (differences.empty()) return who + (undefined ? left_out : "no pair of runs yet") + ".";
  const auto [least, most] = std::minmax_element(differences.begin(), differences.end());
  std::string text =
      who + "SRCC " + difference_text(median(differences)) +
      format(" (median of %zu paired run%s, from ", differences.size(), plural(differences.size())) +
      difference_text(*least) + " to " + difference_text(*most) + ")";
  if (undefined) text += "; " + left_out;
  if (photos.a.empty()) text += "; the photos' labels are not at hand";
  else if (const auto between = paired_bootstrap(photos, srcc, 0))
    text += "; drawing the photos anew, 95% of the medians lie from " + difference_text(between->low) +
            " to " + difference_text(between->high);
  return text + verdict(differences);
}

// ---- tables ----

struct Column {
  const char *name, *shape;
  Figure figure;
};
constexpr Column kColumns[] = {
    {"SRCC", "%.4f", srcc_of},
    {"PLCC", "%.4f", [](const RunResult& r) { return r.plcc; }},
    {"PLCC mapped", "%.4f", [](const RunResult& r) { return r.plcc_mapped; }},
    {"KRCC", "%.4f", [](const RunResult& r) { return r.krcc; }},
    {"RMSE mapped", "%.2f", [](const RunResult& r) { return r.rmse_mapped; }},
    {"minutes a run", "%.1f", [](const RunResult& r) { return std::optional(r.seconds / 60); }}};

// "MEDIAN (LEAST to GREATEST), 2 of 4 undefined".
std::string figure_text(const Runs& runs, const Column& column) {
  const auto values = values_of(runs, column.figure);
  const size_t undefined = runs.size() - values.size();
  if (values.empty()) return undefined ? "undefined" : "-";
  std::string text = format(column.shape, median(values));
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  if (values.size() > 1)
    text += " (" + format(column.shape, *least) + " to " + format(column.shape, *most) + ")";
  return text + (undefined ? format(", %zu of %zu undefined", undefined, runs.size()) : "");
}

std::string published_text(const ExperimentData& data, const std::string& variant) {
  const auto found = data.published.find(variant);
  if (found == data.published.end()) return "";
  const auto part = [](double v) { return std::isnan(v) ? "-" : format("%.3f", v); };
  return part(found->second.srcc) + " / " + part(found->second.plcc);
}

// A row a variant: medians over the seeds.
Rows variant_rows(const TableRuns& t) {
  Rows rows{{"variant", "runs"}};
  for (const auto& column : kColumns) rows[0].push_back(column.name);
  if (!t.data.published.empty()) rows[0].push_back("published SRCC / PLCC");
  for (const auto& v : t.experiment.variants) {
    const Runs runs = t.of(v.name);
    std::vector<std::string> row{label_of(v), format("%zu of %zu", runs.size(), t.experiment.seeds.size())};
    for (const auto& column : kColumns) row.push_back(figure_text(runs, column));
    if (!t.data.published.empty()) row.push_back(published_text(t.data, v.name));
    rows.push_back(std::move(row));
  }
  return rows;
}

// "0.7280 (+0.0205)": the SRCC of `r` and its difference to the baseline's on the same split.
std::string split_cell(const RunResult* r, const RunResult* baseline) {
  if (!r) return "-";
  if (!r->srcc) return "undefined";
  const std::string text = format("%.4f", *r->srcc);
  if (!baseline || r == baseline || !baseline->srcc || r->split != baseline->split) return text;
  return text + " (" + difference_text(*r->srcc - *baseline->srcc) + ")";
}

// A row a seed and label share that has a run: SRCC of every variant and its difference to the baseline.
Rows split_rows(const Experiment& e, const std::vector<RunResult>& results, const ExperimentData& data) {
  Rows rows{{"seed", "labels"}};
  for (const auto& v : e.variants) rows[0].push_back(label_of(v));
  for (int64_t seed : e.seeds)
    for (double share : e.label_shares) {
      const TableRuns t{e, results, data, share};
      std::vector<std::string> row{std::to_string(seed), format("%g%%", 100 * share)};
      bool any = false;
      for (const auto& v : e.variants) {
        const RunResult* r = t.find(v.name, seed);
        any |= r != nullptr;
        row.push_back(split_cell(r, t.find(e.baseline, seed)));
      }
      if (any) rows.push_back(row);
    }
  return rows;
}

// Every variant against the baseline; then every split once, with the seeds that drew it.
Rows remarks(const TableRuns& t) {
  Rows lines;
  for (const auto& v : t.experiment.variants)
    if (v.name != t.experiment.baseline) lines.push_back({comparison(t, v.name)});
  std::vector<std::pair<std::string, std::vector<int64_t>>> splits;  // hash, seeds
  for (int64_t seed : t.experiment.seeds)
    for (const auto& v : t.experiment.variants) {
      const RunResult* r = t.find(v.name, seed);
      if (!r) continue;
      auto at = std::find_if(splits.begin(), splits.end(), [&](auto& s) { return s.first == r->split; });
      if (at == splits.end()) at = splits.insert(at, {r->split, {}});
      if (at->second.empty() || at->second.back() != seed) at->second.push_back(seed);
    }
  for (const auto& [hash, seeds] : splits) {
    std::string drawn_by = concat("seed ", seeds[0]);
    for (size_t i = 1; i < seeds.size(); ++i) drawn_by += concat(", ", seeds[i]);
    lines.push_back({"Split (SHA-256) " + hash + ": " + (splits.size() == 1 ? "all runs" : drawn_by) + "."});
  }
  return lines;
}

// ---- charts ----

// The run of the middle SRCC; null: none has one.
const RunResult* typical(Runs runs) {
  std::erase_if(runs, [](const RunResult* r) { return !r->srcc; });
  std::sort(runs.begin(), runs.end(), [](auto* a, auto* b) { return *a->srcc < *b->srcc; });
  return runs.empty() ? nullptr : runs[runs.size() / 2];
}

// Predictions against labels, with the fitted logistic curve.
std::string scatter_figure(const std::string& variant, const RunResult& r) {
  std::vector<ChartPoint> points;
  for (size_t i = 0; i < r.scores.size(); ++i) points.push_back({r.scores[i], r.labels[i]});
  const auto fit = points.size() >= 2 ? fit_logistic(r.scores, r.labels) : std::nullopt;
  return "<figure><figcaption>" + escaped(variant) + concat(", seed ", r.seed, "</figcaption>") +
         scatter_chart(points, fit ? std::function<double(double)>(*fit) : nullptr) + "</figure>\n";
}

std::string charts(const TableRuns& t) {
  std::vector<Series> srccs, losses;
  std::string plots;
  for (const auto& v : t.experiment.variants) {
    const Runs runs = t.of(v.name);
    srccs.push_back({v.name, values_of(runs, srcc_of)});
    if (const size_t none = runs.size() - srccs.back().values.size())
      srccs.back().name += format(" (%zu undefined)", none);
    const RunResult* r = typical(runs);
    if (r) losses.push_back({v.name, r->losses});
    if (r && !r->labels.empty()) plots += scatter_figure(v.name, *r);
  }
  if (losses.empty()) return "";
  return "<h3>SRCC of each run</h3>\n" + strip_chart(srccs, "SRCC") +
         "<h3>Loss of the run with the middle SRCC</h3>\n" + line_chart(losses, "epoch", "mean loss") +
         (plots.empty() ? "" : "<h3>Predictions of that run, with the fitted logistic curve</h3>\n" + plots);
}

// ---- printing ----

struct Around {
  const char *before, *after;
};
// What stands around each part of a report.
struct Markup {
  Around blocks[6];  // by Block::Kind
  Around row, head, cell, item;
  const char* rule;  // under each head
  std::string (*text)(const std::string&);
};
const Markup kMarkdown{
    {{"# ", "\n\n"}, {"\n## ", "\n\n"}, {"\n### ", "\n\n"}, {"", "\n"}, {"", ""}, {"\n", ""}},
    {"", "|\n"},
    {"| ", " "},
    {"| ", " "},
    {"- ", "\n"},
    "|---",
    [](const std::string& text) { return text; }};
const Markup kHtml{{{"<h1>", "</h1>\n"},
                    {"<h2>", "</h2>\n"},
                    {"<h3>", "</h3>\n"},
                    {"<p>", "</p>\n"},
                    {"<table class=\"figures\">\n", "</table>\n"},
                    {"<ul>\n", "</ul>\n"}},
                   {"<tr>", "</tr>\n"},
                   {"<th>", "</th>"},
                   {"<td>", "</td>"},
                   {"<li>", "</li>\n"},
                   "",
                   escaped};

std::string printed(const Block& block, const Markup& m) {
  std::string text = m.blocks[block.kind].before + m.text(block.text);
  for (size_t i = 0; i < block.rows.size(); ++i) {
    const bool table = block.kind == Block::Table;
    const Around row = table ? m.row : Around{"", ""}, cell = !table ? m.item : i == 0 ? m.head : m.cell;
    text += row.before;
    for (const auto& words : block.rows[i]) text += cell.before + m.text(words) + cell.after;
    text += row.after;
    if (!table || i > 0 || !*m.rule) continue;
    for (size_t c = 0; c < block.rows[0].size(); ++c) text += m.rule;
    text += row.after;
  }
  return text + m.blocks[block.kind].after;
}

std::string heading(const Experiment& e, size_t finished) {
  std::string text = format("%zu of %zu runs. Protocol %s", finished, runs_of(e).size(), e.protocol.c_str());
  text += e.protocol == "paper" ? " (the best epoch is chosen on the part that it is measured on)"
                                : " (the last epoch)";
  text += "; crops " + e.crops +
          ". Figures are medians over seeds (least to greatest), all variants on the same splits and seeds.";
  if (std::any_of(e.variants.begin(), e.variants.end(), [](auto& v) { return v.truncated_schedule; }))
    text +=
        " Truncated: the warm-up was longer than the first step of the learning rate's curve, so the run "
        "learnt at lower rates than the curve's.";
  return text;
}

}  // namespace

std::vector<Block> experiment_report(const Experiment& e, const std::vector<RunResult>& results) {
  // Figures of the protocol that looks at the tested photos are marked wherever they stand.
  const std::string protocol = e.protocol == "paper" ? ", protocol paper" : "";
  std::vector<Block> report{{Block::Title, e.name}, {Block::Paragraph, heading(e, results.size())}};
  std::set<std::string> origins;
  for (const auto& r : results)
    if (const std::string o = "Made by qfm " + r.version + " " + r.commit + "."; origins.insert(o).second)
      report.push_back({Block::Paragraph, o});
  for (const auto& data : e.data) {
    for (double share : e.label_shares) {
      const TableRuns t{e, results, data, share};
      std::string title = data.name;
      if (e.label_shares.size() > 1 || share < 1)
        title += format(", %g%% of the training labels", 100 * share);
      report.push_back({Block::Section, title + protocol});
      report.push_back({Block::Table, "", variant_rows(t)});
      report.push_back({Block::List, "", remarks(t)});
      report.push_back({Block::Charts, charts(t)});
    }
    const Rows rows = split_rows(e, results, data);
    if (rows.size() < 2) continue;
    report.push_back(
        {Block::Subsection, data.name + ": SRCC of each seed (difference to " + e.baseline + ")" + protocol});
    report.push_back({Block::Table, "", rows});
  }
  return report;
}

std::string markdown(const std::vector<Block>& report) {
  std::string text;
  for (const Block& block : report)
    if (block.kind != Block::Charts) text += printed(block, kMarkdown);
  return text;
}

std::string html(const std::vector<Block>& report) {
  std::string page = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" +
                     escaped(report.front().text) + "</title>\n" + page_style() + "</head><body>\n";
  for (const Block& block : report) page += block.kind == Block::Charts ? block.text : printed(block, kHtml);
  return page + "</body></html>\n";
}

}  // namespace qfm
