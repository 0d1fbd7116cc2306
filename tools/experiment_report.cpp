#include "tools/experiment_report.h"

#include <algorithm>
#include <cmath>

#include "engine/base/error.h"
#include "tools/charts.h"
#include "tools/console.h"
#include "train/metrics.h"
#include "train/paired_tests.h"

namespace qfm {
namespace {

constexpr int64_t kPairsForP = 6;  // fewer cannot reach p < 0.05 whatever their signs
constexpr double kSignificant = 0.05;

Json number(std::optional<double> value) { return value ? Json(*value) : Json(nullptr); }
std::optional<double> number_of(const Json& line, const char* key) {
  const Json& value = line.at(key);
  return value.is_null() ? std::nullopt : std::optional(value.get<double>());
}

// One table: a data set at a share of its labels.
struct Table {
  const ExperimentData* data;
  double share;
};
std::vector<Table> tables_of(const Experiment& e) {
  std::vector<Table> tables;
  for (const auto& data : e.data)
    for (double share : e.label_shares) tables.push_back({&data, share});
  return tables;
}

// By seed, in the order of the experiment's seeds.
std::vector<const RunResult*> runs_in(const Experiment& e, const std::vector<RunResult>& results,
                                      const Table& t, const std::string& variant) {
  std::vector<const RunResult*> found;
  for (int64_t seed : e.seeds)
    for (const auto& r : results)
      if (r.data == t.data->name && r.label_share == t.share && r.variant == variant && r.seed == seed)
        found.push_back(&r);
  return found;
}

using Figure = std::optional<double> RunResult::*;
// The runs' values that are defined; scores that are all equal have no correlation.
std::vector<double> values_of(const std::vector<const RunResult*>& runs, Figure figure) {
  std::vector<double> values;
  for (const auto* r : runs)
    if (r->*figure) values.push_back(*(r->*figure));
  return values;
}

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
  if (values.size() == runs.size()) return figure_text(values, shape);
  if (values.empty()) return "undefined";
  return figure_text(values, shape) +
         format(", %zu of %zu undefined", runs.size() - values.size(), runs.size());
}

std::string published_text(const ExperimentData& data, const std::string& variant) {
  for (const auto& p : data.published) {
    if (p.variant != variant) continue;
    const auto part = [](std::optional<double> v) { return v ? format("%.3f", *v) : std::string("-"); };
    return part(p.srcc) + " / " + part(p.plcc);
  }
  return "";
}

// Pairs of one seed where both have an SRCC.
struct Pairs {
  std::vector<double> differences;
  PairedRuns runs;
  size_t undefined = 0;  // left out: the SRCC of one of the two or of both is undefined
};
Pairs pairs_of(const std::vector<const RunResult*>& runs, const std::vector<const RunResult*>& baseline) {
  Pairs pairs;
  for (const auto* r : runs)
    for (const auto* b : baseline) {
      if (r->seed != b->seed || r->split != b->split) continue;
      if (!r->srcc || !b->srcc) {
        ++pairs.undefined;
        continue;
      }
      pairs.differences.push_back(*r->srcc - *b->srcc);
      if (r->labels.empty() || b->labels.empty()) continue;
      pairs.runs.a.push_back(r->scores), pairs.runs.b.push_back(b->scores),
          pairs.runs.labels.push_back(r->labels);
    }
  return pairs;
}

std::string comparison(const std::string& variant, const std::string& baseline, const Pairs& pairs) {
  const auto n = static_cast<int64_t>(pairs.differences.size());
  const std::string left_out = pairs.undefined ? format("%zu pair%s left out, the SRCC undefined",
                                                        pairs.undefined, pairs.undefined == 1 ? "" : "s")
                                               : "";
  if (n == 0)
    return variant + " against " + baseline + ": " + (left_out.empty() ? "no pair of runs yet" : left_out) +
           ".";
  std::string text =
      format("%s against %s: SRCC %+.4f (median of %lld paired run%s, from %+.4f to %+.4f)", variant.c_str(),
             baseline.c_str(), median(pairs.differences), static_cast<long long>(n), n == 1 ? "" : "s",
             *std::min_element(pairs.differences.begin(), pairs.differences.end()),
             *std::max_element(pairs.differences.begin(), pairs.differences.end()));
  if (!left_out.empty()) text += "; " + left_out;
  if (pairs.runs.a.empty()) text += "; the photos' labels are not at hand";
  else if (const auto between = paired_bootstrap(pairs.runs, srcc, 0))
    text += format("; drawing the photos anew, 95%% of the medians lie from %+.4f to %+.4f", between->low,
                   between->high);
  if (n < kPairsForP) return text + ". Exploratory: too few pairs for a p-value.";
  const auto test = wilcoxon(pairs.differences);
  if (!test) return text + ". All pairs are equal.";
  text += format("; Wilcoxon signed ranks, two-sided, p = %.4f", test->p);
  if (test->p >= kSignificant) return text + ": no difference shown.";
  return text + (median(pairs.differences) > 0 ? ": better." : ": worse.");
}

std::string title_of(const Experiment& e, const Table& t) {
  std::string title = t.data->name;
  if (e.label_shares.size() > 1 || t.share < 1)
    title += format(", %g%% of the training labels", 100 * t.share);
  return title;
}

std::string heading(const Experiment& e, size_t finished) {
  std::string text = format("%zu of %zu runs. Protocol %s", finished, runs_of(e).size(), e.protocol.c_str());
  text += e.protocol == "paper" ? " (the best epoch is chosen on the part that it is measured on)"
                                : " (the last epoch)";
  return text + "; crops " + e.crops +
         ". Figures are medians over seeds (least to greatest), all variants on the same splits and seeds.";
}

std::vector<std::string> origins(const std::vector<RunResult>& results) {
  std::vector<std::string> seen;
  for (const auto& r : results)
    if (const std::string o = r.version + " " + r.commit;
        std::find(seen.begin(), seen.end(), o) == seen.end())
      seen.push_back(o);
  return seen;
}

constexpr const char* kColumns[] = {"variant",     "runs", "SRCC",        "PLCC",
                                    "PLCC mapped", "KRCC", "RMSE mapped", "minutes a run"};

std::vector<std::vector<std::string>> table_rows(const Experiment& e, const std::vector<RunResult>& results,
                                                 const Table& t) {
  std::vector<std::vector<std::string>> rows{{std::begin(kColumns), std::end(kColumns)}};
  const bool published = !t.data->published.empty();
  if (published) rows[0].push_back("published SRCC / PLCC");
  for (const auto& v : e.variants) {
    const auto runs = runs_in(e, results, t, v.name);
    std::vector<double> minutes;
    for (const auto* r : runs) minutes.push_back(r->seconds / 60);
    rows.push_back({v.name, format("%zu of %zu", runs.size(), e.seeds.size()),
                    figure_text(runs, &RunResult::srcc, "%.4f"), figure_text(runs, &RunResult::plcc, "%.4f"),
                    figure_text(runs, &RunResult::plcc_mapped, "%.4f"),
                    figure_text(runs, &RunResult::krcc, "%.4f"),
                    figure_text(runs, &RunResult::rmse_mapped, "%.2f"), figure_text(minutes, "%.1f")});
    if (published) rows.back().push_back(published_text(*t.data, v.name));
  }
  return rows;
}

std::vector<std::string> comparisons(const Experiment& e, const std::vector<RunResult>& results,
                                     const Table& t) {
  std::vector<std::string> lines;
  const auto baseline = runs_in(e, results, t, e.baseline);
  for (const auto& v : e.variants)
    if (v.name != e.baseline)
      lines.push_back(comparison(v.name, e.baseline, pairs_of(runs_in(e, results, t, v.name), baseline)));
  return lines;
}

// The run of the middle SRCC.
const RunResult* typical(std::vector<const RunResult*> runs) {
  std::erase_if(runs, [](const RunResult* r) { return !r->srcc; });
  if (runs.empty()) return nullptr;
  std::sort(runs.begin(), runs.end(), [](auto* a, auto* b) { return *a->srcc < *b->srcc; });
  return runs[runs.size() / 2];
}

std::string charts(const Experiment& e, const std::vector<RunResult>& results, const Table& t) {
  std::vector<Series> srccs, losses;
  std::string plots;
  for (const auto& v : e.variants) {
    const auto runs = runs_in(e, results, t, v.name);
    srccs.push_back({v.name, values_of(runs, &RunResult::srcc)});
    if (const size_t none = runs.size() - srccs.back().values.size())
      srccs.back().name += format(" (%zu undefined)", none);
    const RunResult* r = typical(runs);
    if (!r) continue;
    losses.push_back({v.name, r->losses});
    if (r->labels.empty()) continue;
    std::vector<ChartPoint> points;
    for (size_t i = 0; i < r->scores.size(); ++i) points.push_back({r->scores[i], r->labels[i]});
    const auto fit = points.size() >= 2 ? fit_logistic(r->scores, r->labels) : std::nullopt;
    plots += "<figure><figcaption>" + escaped(v.name) +
             format(", seed %lld", static_cast<long long>(r->seed)) + "</figcaption>" +
             scatter_chart(points, fit ? std::function<double(double)>(*fit) : nullptr) + "</figure>\n";
  }
  if (losses.empty()) return "";
  return "<h3>SRCC of each run</h3>\n" + strip_chart(srccs, "SRCC") +
         "<h3>Loss of the run with the middle SRCC</h3>\n" + line_chart(losses, "epoch", "mean loss") +
         (plots.empty() ? "" : "<h3>Predictions of that run, with the fitted logistic curve</h3>\n" + plots);
}

}  // namespace

Json RunResult::json() const {
  Json s = Json::array();
  for (double v : scores) s.push_back(rounded(v));
  return {{"id", id},
          {"key", key},
          {"data", data},
          {"variant", variant},
          {"label_share", label_share},
          {"seed", seed},
          {"split_sha256", split},
          {"version", version},
          {"commit", commit},
          {"srcc", number(srcc)},
          {"plcc", number(plcc)},
          {"plcc_mapped", number(plcc_mapped)},
          {"krcc", number(krcc)},
          {"rmse_mapped", number(rmse_mapped)},
          {"seconds", rounded(seconds)},
          {"losses", losses},
          {"scores", s}};
}

RunResult RunResult::from(const Json& line) {
  try {
    RunResult r;
    r.id = line.at("id"), r.key = line.at("key"), r.data = line.at("data"), r.variant = line.at("variant");
    r.split = line.at("split_sha256"), r.version = line.at("version"), r.commit = line.at("commit");
    r.label_share = line.at("label_share"), r.seed = line.at("seed"), r.seconds = line.at("seconds");
    r.srcc = number_of(line, "srcc"), r.plcc = number_of(line, "plcc"), r.krcc = number_of(line, "krcc");
    r.plcc_mapped = number_of(line, "plcc_mapped"), r.rmse_mapped = number_of(line, "rmse_mapped");
    r.losses = line.at("losses").get<std::vector<double>>();
    r.scores = line.at("scores").get<std::vector<double>>();
    return r;
  } catch (const Json::exception& e) {
    QFM_FAIL("not a result: ", e.what());
  }
}

std::string experiment_markdown(const Experiment& e, const std::vector<RunResult>& results) {
  std::string text = "# " + e.name + "\n\n" + heading(e, results.size()) + "\n";
  for (const auto& origin : origins(results)) text += "Made by qfm " + origin + ".\n";
  for (const Table& t : tables_of(e)) {
    text += "\n## " + title_of(e, t) + "\n\n";
    const auto rows = table_rows(e, results, t);
    for (size_t i = 0; i < rows.size(); ++i) {
      for (const auto& cell : rows[i]) text += "| " + cell + " ";
      text += "|\n";
      if (i > 0) continue;
      for (size_t c = 0; c < rows[0].size(); ++c) text += "|---";
      text += "|\n";
    }
    text += "\n";
    for (const auto& line : comparisons(e, results, t)) text += "- " + line + "\n";
  }
  return text;
}

std::string experiment_html(const Experiment& e, const std::vector<RunResult>& results) {
  std::string page = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" +
                     escaped(e.name) + "</title>\n" + page_style() + "</head><body>\n<h1>" + escaped(e.name) +
                     "</h1>\n<p>" + escaped(heading(e, results.size())) + "</p>\n";
  for (const auto& origin : origins(results)) page += "<p>Made by qfm " + escaped(origin) + ".</p>\n";
  for (const Table& t : tables_of(e)) {
    page += "<h2>" + escaped(title_of(e, t)) + "</h2>\n<table>\n";
    const auto rows = table_rows(e, results, t);
    for (size_t i = 0; i < rows.size(); ++i) {
      const char* cell = i == 0 ? "th" : "td";
      page += "<tr>";
      for (const auto& text : rows[i]) page += format("<%s>", cell) + escaped(text) + format("</%s>", cell);
      page += "</tr>\n";
    }
    page += "</table>\n<ul>\n";
    for (const auto& line : comparisons(e, results, t)) page += "<li>" + escaped(line) + "</li>\n";
    page += "</ul>\n" + charts(e, results, t);
  }
  return page + "</body></html>\n";
}

}  // namespace qfm
