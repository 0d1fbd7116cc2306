#include "tools/experiment/report.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/base/error.h"
#include "tools/cli/charts.h"
#include "tools/cli/console.h"
#include "tools/experiment/comparison.h"
#include "train/metrics/metrics.h"
#include "train/metrics/paired_tests.h"

namespace qfm {
namespace {

using Kind = Block::Kind;

std::string label_of(const ExperimentVariant& v) {
  return v.name + (v.truncated_schedule ? " (truncated)" : "");
}

// Figures of the protocol that looks at the tested photos say so wherever they stand.
std::string protocol_label(const Experiment& e) { return e.protocol == "paper" ? ", protocol paper" : ""; }

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

// ---- cells ----

// Median (least to greatest).
std::string figure_text(const std::vector<double>& values, const char* shape) {
  if (values.empty()) return "-";
  std::string text = format(shape, median(values));
  if (values.size() < 2) return text;
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return text + " (" + format(shape, *least) + " to " + format(shape, *most) + ")";
}

// Says how many of the runs have no such figure.
std::string figure_text(const std::vector<const RunResult*>& runs, Figure figure, const char* shape) {
  const auto values = values_of(runs, figure);
  const size_t undefined = runs.size() - values.size();
  if (undefined == 0) return figure_text(values, shape);
  if (values.empty()) return "undefined";
  return figure_text(values, shape) + format(", %zu of %zu undefined", undefined, runs.size());
}

std::string published_text(const ExperimentData& data, const std::string& variant) {
  const auto found = data.published.find(variant);
  if (found == data.published.end()) return "";
  const auto part = [](double v) { return std::isnan(v) ? "-" : format("%.3f", v); };
  return part(found->second.srcc) + " / " + part(found->second.plcc);
}

// "0.7280 (+0.0205)": the SRCC of `r` and its difference to the baseline's on the same split.
std::string split_cell(const RunResult* r, const RunResult* baseline) {
  if (!r) return "-";
  if (!r->srcc) return "undefined";
  const std::string text = format("%.4f", *r->srcc);
  if (!baseline || r == baseline || !baseline->srcc || r->split != baseline->split) return text;
  return text + " (" + difference_text(*r->srcc - *baseline->srcc) + ")";
}

// ---- tables ----

struct Column {
  const char *name, *shape;
  Figure figure;
};
constexpr Column kColumns[] = {{"SRCC", "%.4f", &RunResult::srcc},
                               {"PLCC", "%.4f", &RunResult::plcc},
                               {"PLCC mapped", "%.4f", &RunResult::plcc_mapped},
                               {"KRCC", "%.4f", &RunResult::krcc},
                               {"RMSE mapped", "%.2f", &RunResult::rmse_mapped}};

// A row a variant: medians over the seeds.
Rows variant_rows(const TableRuns& t) {
  Rows rows{{"variant", "runs"}};
  for (const auto& column : kColumns) rows[0].push_back(column.name);
  rows[0].push_back("minutes a run");
  if (!t.data.published.empty()) rows[0].push_back("published SRCC / PLCC");
  for (const auto& v : t.experiment.variants) {
    const auto runs = t.of(v.name);
    std::vector<double> minutes;
    for (const auto* r : runs) minutes.push_back(r->seconds / 60);
    auto& row = rows.emplace_back();
    row = {label_of(v), format("%zu of %zu", runs.size(), t.experiment.seeds.size())};
    for (const auto& column : kColumns) row.push_back(figure_text(runs, column.figure, column.shape));
    row.push_back(figure_text(minutes, "%.1f"));
    if (!t.data.published.empty()) row.push_back(published_text(t.data, v.name));
  }
  return rows;
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

// Every split once, with the seeds that drew it: "seed 0, 3".
std::vector<std::pair<std::string, std::string>> splits_of(const TableRuns& t) {
  std::vector<std::pair<std::string, std::string>> splits;
  for (int64_t seed : t.experiment.seeds) {
    std::set<std::string> seen;
    for (const auto& v : t.experiment.variants)
      if (const auto* r = t.find(v.name, seed)) seen.insert(r->split);
    for (const auto& hash : seen) {
      const auto at = std::find_if(splits.begin(), splits.end(), [&](auto& s) { return s.first == hash; });
      if (at == splits.end()) splits.emplace_back(hash, concat("seed ", seed));
      else at->second += concat(", ", seed);
    }
  }
  return splits;
}

// Every variant against the baseline, in words; then the splits' hashes with their seeds.
Rows remarks(const TableRuns& t) {
  Rows lines;
  for (const auto& v : t.experiment.variants)
    if (v.name != t.experiment.baseline) lines.push_back({comparison(t, v.name)});
  const auto splits = splits_of(t);
  for (const auto& [hash, seeds] : splits)
    lines.push_back({"Split (SHA-256) " + hash + ": " + (splits.size() == 1 ? "all runs" : seeds) + "."});
  return lines;
}

// ---- charts ----

// The run of the middle SRCC; null: none has one.
const RunResult* typical(std::vector<const RunResult*> runs) {
  std::erase_if(runs, [](const RunResult* r) { return !r->srcc; });
  if (runs.empty()) return nullptr;
  std::sort(runs.begin(), runs.end(), [](auto* a, auto* b) { return *a->srcc < *b->srcc; });
  return runs[runs.size() / 2];
}

// Predictions against labels, with the fitted logistic curve.
std::string scatter_figure(const std::string& variant, const RunResult& r) {
  std::vector<ChartPoint> points;
  for (size_t i = 0; i < r.scores.size(); ++i) points.push_back({r.scores[i], r.labels[i]});
  const auto fit = points.size() >= 2 ? fit_logistic(r.scores, r.labels) : std::nullopt;
  return "<figure><figcaption>" + escaped(variant) + format(", seed %lld", static_cast<long long>(r.seed)) +
         "</figcaption>" + scatter_chart(points, fit ? std::function<double(double)>(*fit) : nullptr) +
         "</figure>\n";
}

std::string charts(const TableRuns& t) {
  std::vector<Series> srccs, losses;
  std::string plots;
  for (const auto& v : t.experiment.variants) {
    const auto runs = t.of(v.name);
    srccs.push_back({v.name, values_of(runs, &RunResult::srcc)});
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

// ---- printers ----

std::string markdown_table(const Rows& rows) {
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const auto& cell : rows[i]) text += "| " + cell + " ";
    text += "|\n";
    if (i > 0) continue;
    for (size_t c = 0; c < rows[0].size(); ++c) text += "|---";
    text += "|\n";
  }
  return text;
}

std::string html_table(const Rows& rows) {
  std::string text = "<table class=\"figures\">\n";
  for (size_t i = 0; i < rows.size(); ++i) {
    text += "<tr>";
    for (const auto& cell : rows[i])
      text += (i == 0 ? "<th>" : "<td>") + escaped(cell) + (i == 0 ? "</th>" : "</td>");
    text += "</tr>\n";
  }
  return text + "</table>\n";
}

std::string list(const Rows& rows, const std::string& before, const std::string& after,
                 std::string (*shown)(const std::string&)) {
  std::string text;
  for (const auto& row : rows) text += before + shown(row[0]) + after;
  return text;
}

std::string markdown(const Block& b) {
  switch (b.kind) {
    case Kind::Title:
      return "# " + b.text + "\n\n";
    case Kind::Section:
      return "\n## " + b.text + "\n\n";
    case Kind::Subsection:
      return "\n### " + b.text + "\n\n";
    case Kind::Paragraph:
      return b.text + "\n";
    case Kind::Table:
      return markdown_table(b.rows);
    case Kind::List:
      return "\n" + list(b.rows, "- ", "\n", [](const std::string& s) { return s; });
    case Kind::Charts:
      return "";
  }
  return "";
}

std::string html(const Block& b) {
  const std::string text = escaped(b.text);
  switch (b.kind) {
    case Kind::Title:
      return "<h1>" + text + "</h1>\n";
    case Kind::Section:
      return "<h2>" + text + "</h2>\n";
    case Kind::Subsection:
      return "<h3>" + text + "</h3>\n";
    case Kind::Paragraph:
      return "<p>" + text + "</p>\n";
    case Kind::Table:
      return html_table(b.rows);
    case Kind::List:
      return "<ul>\n" + list(b.rows, "<li>", "</li>\n", escaped) + "</ul>\n";
    case Kind::Charts:
      return b.text;
  }
  return "";
}

}  // namespace

std::vector<Block> experiment_report(const Experiment& e, const std::vector<RunResult>& results) {
  std::vector<Block> report{{Kind::Title, e.name}, {Kind::Paragraph, heading(e, results.size())}};
  std::set<std::string> origins;
  for (const auto& r : results)
    if (const std::string o = "Made by qfm " + r.version + " " + r.commit + "."; origins.insert(o).second)
      report.push_back({Kind::Paragraph, o});
  for (const auto& data : e.data) {
    for (double share : e.label_shares) {
      const TableRuns t{e, results, data, share};
      const bool part = e.label_shares.size() > 1 || share < 1;
      report.push_back(
          {Kind::Section, data.name + (part ? format(", %g%% of the training labels", 100 * share) : "") +
                              protocol_label(e)});
      report.push_back({Kind::Table, "", variant_rows(t)});
      report.push_back({Kind::List, "", remarks(t)});
      report.push_back({Kind::Charts, charts(t)});
    }
    const auto rows = split_rows(e, results, data);
    if (rows.size() < 2) continue;
    report.push_back({Kind::Subsection, data.name + ": SRCC of each seed (difference to " + e.baseline + ")" +
                                            protocol_label(e)});
    report.push_back({Kind::Table, "", rows});
  }
  return report;
}

std::string markdown(const std::vector<Block>& report) {
  std::string text;
  for (const Block& block : report) text += markdown(block);
  return text;
}

std::string html(const std::vector<Block>& report) {
  std::string page = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" +
                     escaped(report.front().text) + "</title>\n" + page_style() + "</head><body>\n";
  for (const Block& block : report) page += html(block);
  return page + "</body></html>\n";
}

}  // namespace qfm
