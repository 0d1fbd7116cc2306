#include "tools/experiment/report.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/base/error.h"
#include "tools/cli/charts.h"
#include "tools/cli/console.h"
#include "train/metrics/paired_tests.h"

namespace qfm {
namespace {

constexpr size_t kPairsForP = 6;  // fewer cannot reach p < 0.05 whatever their signs
constexpr double kSignificant = 0.05;

using Row = std::vector<std::string>;
using Runs = std::vector<const RunResult*>;  // a run a seed; null: not made yet

// A data set at a share of its labels.
struct Table {
  const Experiment& experiment;
  const ExperimentData& data;
  const double share;
  std::vector<Runs> runs;  // of each variant
  size_t baseline = 0;     // its place among them

  Table(const Experiment& e, const RunResults& results, const ExperimentData& of, double labels)
      : experiment(e), data(of), share(labels) {
    for (const auto& variant : e.variants) {
      if (variant.name == e.baseline) baseline = runs.size();
      runs.emplace_back();
      for (int64_t seed : e.seeds) {
        const auto at = results.find(ExperimentRun{&data, &variant, share, seed}.id());
        runs.back().push_back(at == results.end() ? nullptr : &at->second);
      }
    }
  }
};

size_t made(const Runs& runs) {
  return static_cast<size_t>(std::count_if(runs.begin(), runs.end(), [](auto* r) { return r; }));
}

// The figures that are defined; scores that are all equal have no correlation.
std::vector<double> values_of(const Runs& runs, const char* figure) {
  std::vector<double> values;
  for (const RunResult* r : runs)
    if (r && r->figure(figure)) values.push_back(*r->figure(figure));
  return values;
}

std::string label_of(const ExperimentVariant& v) {
  return v.name + (truncated_schedule(v.config) ? " (truncated)" : "");
}

std::string counted(size_t n, const std::string& noun) { return concat(n, " ", noun, n == 1 ? "" : "s"); }

// "+0.0205", to four decimals; never "-0.0000".
std::string difference_text(double value) { return format("%+.4f", rounded(value) + 0.0); }

// ---- a variant against the baseline ----

// Ends the sentence before it.
std::string verdict(const std::vector<double>& differences) {
  if (differences.size() < kPairsForP) return ". Exploratory: too few pairs for a p-value.";
  const auto test = wilcoxon(differences);
  if (!test) return ". All pairs are equal.";
  const char* word = test->p >= kSignificant ? "no difference shown" : median(differences) > 0 ? "better" : "worse";
  return format("; Wilcoxon signed ranks, two-sided, p = %.4f: %s.", test->p, word);
}

// SRCC of the pairs of one seed: their median difference, how it varies, the test.
std::string comparison(const Runs& runs, const Runs& baseline) {
  std::vector<double> differences;
  PairedRuns photos;
  size_t undefined = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    const RunResult *r = runs[i], *b = baseline[i];
    if (!r || !b || r->split_sha256 != b->split_sha256) continue;
    const auto ours = r->figure("srcc"), theirs = b->figure("srcc");
    if (ours && theirs) differences.push_back(*ours - *theirs);
    else ++undefined;
    if (!ours || !theirs || r->labels.empty() || b->labels.empty()) continue;
    photos.a.push_back(r->scores), photos.b.push_back(b->scores), photos.labels.push_back(r->labels);
  }
  const std::string left_out = undefined ? counted(undefined, "pair") + " left out, the SRCC undefined" : "";
  if (differences.empty()) return (undefined ? left_out : "no pair of runs yet") + ".";
  const auto [least, most] = std::minmax_element(differences.begin(), differences.end());
  std::string text = "SRCC " + difference_text(median(differences)) + " (median of " +
                     counted(differences.size(), "paired run") + ", from " + difference_text(*least) + " to " +
                     difference_text(*most) + ")" + (undefined ? "; " : "") + left_out;
  if (photos.a.empty()) text += "; the photos' labels are not at hand";
  else if (const auto between = paired_bootstrap(photos, srcc, 0))
    text += "; drawing the photos anew, 95% of the medians lie from " + difference_text(between->low) + " to " +
            difference_text(between->high);
  return text + verdict(differences);
}

// Every variant against the baseline; then every split once, with the seeds that drew it.
std::vector<std::string> remarks(const Table& t) {
  std::vector<std::string> lines;
  for (size_t v = 0; v < t.runs.size(); ++v)
    if (v != t.baseline)
      lines.push_back(t.experiment.variants[v].name + " against " + t.experiment.baseline + ": " +
                      comparison(t.runs[v], t.runs[t.baseline]));
  nlohmann::ordered_map<std::string, std::string> splits;  // SHA-256, seeds
  for (size_t i = 0; i < t.experiment.seeds.size(); ++i) {
    std::set<std::string> drawn;
    for (const Runs& runs : t.runs)
      if (runs[i]) drawn.insert(runs[i]->split_sha256);
    for (const auto& hash : drawn)
      splits[hash] += concat(splits[hash].empty() ? "seed " : ", ", t.experiment.seeds[i]);
  }
  for (const auto& [hash, seeds] : splits)
    lines.push_back("Split (SHA-256) " + hash + ": " + (splits.size() == 1 ? "all runs" : seeds) + ".");
  return lines;
}

// ---- tables ----

struct Column {
  const char *name, *figure, *shape;
  double unit = 1;
};
constexpr Column kColumns[] = {
    {"SRCC", "srcc", "%.4f"}, {"PLCC", "plcc", "%.4f"},               {"PLCC mapped", "plcc_mapped", "%.4f"},
    {"KRCC", "krcc", "%.4f"}, {"RMSE mapped", "rmse_mapped", "%.2f"}, {"minutes a run", "seconds", "%.1f", 60}};

// "MEDIAN (LEAST to GREATEST), 2 of 4 undefined".
std::string figure_cell(const Runs& runs, const Column& column) {
  const auto values = values_of(runs, column.figure);
  const size_t all = made(runs), undefined = all - values.size();
  if (values.empty()) return undefined ? "undefined" : "-";
  const auto shown = [&](double value) { return format(column.shape, value / column.unit); };
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return shown(median(values)) + (values.size() > 1 ? " (" + shown(*least) + " to " + shown(*most) + ")" : "") +
         (undefined ? format(", %zu of %zu undefined", undefined, all) : "");
}

// "0.900 / -": SRCC and PLCC.
std::string published_cell(const ExperimentData& data, const std::string& variant) {
  const auto found = data.published.find(variant);
  if (found == data.published.end()) return "";
  const auto shown = [&](const char* figure) {
    return found->second.contains(figure) ? format("%.3f", found->second.at(figure)) : "-";
  };
  return shown("srcc") + " / " + shown("plcc");
}

// A row a variant: medians over the seeds.
std::vector<Row> variant_rows(const Table& t) {
  std::vector<Row> rows{{"variant", "runs"}};
  for (const auto& column : kColumns) rows[0].push_back(column.name);
  if (!t.data.published.empty()) rows[0].push_back("published SRCC / PLCC");
  for (size_t v = 0; v < t.runs.size(); ++v) {
    const auto& variant = t.experiment.variants[v];
    rows.push_back({label_of(variant), format("%zu of %zu", made(t.runs[v]), t.runs[v].size())});
    for (const auto& column : kColumns) rows.back().push_back(figure_cell(t.runs[v], column));
    if (!t.data.published.empty()) rows.back().push_back(published_cell(t.data, variant.name));
  }
  return rows;
}

// "0.7280 (+0.0205)": the SRCC of `r` and its difference to the baseline's on the same split.
std::string split_cell(const RunResult* r, const RunResult* baseline) {
  if (!r) return "-";
  const auto srcc = r->figure("srcc"), other = baseline ? baseline->figure("srcc") : std::nullopt;
  if (!srcc) return "undefined";
  const bool paired = r != baseline && other && r->split_sha256 == baseline->split_sha256;
  return format("%.4f", *srcc) + (paired ? " (" + difference_text(*srcc - *other) + ")" : "");
}

// A row a seed and label share that has a run.
std::vector<Row> split_rows(const Experiment& e, const std::vector<Table>& shares) {
  std::vector<Row> rows{{"seed", "labels"}};
  for (const auto& v : e.variants) rows[0].push_back(label_of(v));
  for (size_t i = 0; i < e.seeds.size(); ++i)
    for (const Table& t : shares) {
      Row row{std::to_string(e.seeds[i]), format("%g%%", 100 * t.share)};
      for (const Runs& runs : t.runs) row.push_back(split_cell(runs[i], t.runs[t.baseline][i]));
      if (std::any_of(t.runs.begin(), t.runs.end(), [i](auto& runs) { return runs[i]; })) rows.push_back(row);
    }
  return rows;
}

// ---- the page ----

std::string charts(const Table& t) {
  std::vector<Series> srccs, losses;
  std::string plots;
  for (size_t v = 0; v < t.runs.size(); ++v) {
    const std::string& name = t.experiment.variants[v].name;
    srccs.push_back({name, values_of(t.runs[v], "srcc")});
    if (const size_t undefined = made(t.runs[v]) - srccs[v].values.size())
      srccs[v].name += format(" (%zu undefined)", undefined);
    Runs ranked = t.runs[v];
    std::erase_if(ranked, [](auto* r) { return !r || !r->figure("srcc"); });
    if (ranked.empty()) continue;
    std::sort(ranked.begin(), ranked.end(), [](auto* a, auto* b) { return a->figure("srcc") < b->figure("srcc"); });
    const RunResult& typical = *ranked[ranked.size() / 2];
    losses.push_back({name, typical.losses});
    if (!typical.labels.empty())
      plots += "<figure><figcaption>" + escaped(name) + concat(", seed ", typical.seed, "</figcaption>") +
               scatter_chart(typical.scores, typical.labels) + "</figure>\n";
  }
  if (losses.empty()) return "";
  return "<h3>SRCC of each run</h3>\n" + strip_chart(srccs, "SRCC") +
         "<h3>Loss of the run with the middle SRCC</h3>\n" + line_chart(losses, "epoch", "mean loss") +
         (plots.empty() ? "" : "<h3>Predictions of that run, with the fitted logistic curve</h3>\n" + plots);
}

std::string introduction(const Experiment& e, size_t finished) {
  std::string text = format("%zu of %zu runs. Protocol %s (", finished, runs_of(e).size(), e.protocol.c_str());
  text += e.protocol == "paper" ? "the best epoch is chosen on the part that it is measured on" : "the last epoch";
  text += "); crops " + e.crops +
          ". Figures are medians over seeds (least to greatest), all variants on the same splits and seeds.";
  if (std::any_of(e.variants.begin(), e.variants.end(), [](auto& v) { return truncated_schedule(v.config); }))
    text += " Truncated: the warm-up was longer than the first step of the learning rate's curve, so the run "
            "learnt at lower rates than the curve's.";
  return text;
}

}  // namespace

Page report_of(const Experiment& e, const RunResults& results) {
  // Figures of the protocol that looks at the tested photos are marked wherever they stand.
  const std::string protocol = e.protocol == "paper" ? ", protocol paper" : "";
  Page page;
  page.heading(1, e.name), page.paragraph(introduction(e, results.size()));
  std::set<std::string> origins;
  for (const auto& [id, r] : results)
    if (const auto at = origins.insert("Made by qfm " + r.version + " " + r.commit + "."); at.second)
      page.paragraph(*at.first);
  for (const auto& data : e.data) {
    std::vector<Table> tables;
    for (double share : e.label_shares) {
      const Table& t = tables.emplace_back(e, results, data, share);
      const bool whole = e.label_shares.size() == 1 && share == 1;
      page.heading(2, data.name + (whole ? "" : format(", %g%% of the training labels", 100 * share)) + protocol);
      page.table(variant_rows(t)), page.list(remarks(t));
      page.body += charts(t);
    }
    const auto rows = split_rows(e, tables);
    if (rows.size() < 2) continue;
    page.heading(3, data.name + ": SRCC of each seed (difference to " + e.baseline + ")" + protocol);
    page.table(rows);
  }
  return page;
}

}  // namespace qfm
