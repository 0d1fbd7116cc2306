#include "tools/commands/eval_report.h"

#include <cmath>

#include "tools/cli/charts.h"
#include "tools/cli/console.h"
#include "tools/cli/page.h"
#include "train/data/csv_field.h"

namespace qfm {
namespace {

Json interval(const std::optional<Interval>& i) { return i ? Json{i->low, i->high} : Json(nullptr); }

Json intervals_json(const EvalReport::Intervals& intervals) {
  const auto covered = coverages(intervals.photos);
  const double constant = constant_width(intervals.photos);
  Json j{{"probability", intervals.probability}};
  j["coverage"] = covered[0].coverage, j["mean_width"] = covered[0].mean_width, j["constant_width"] = constant;
  j["width_ratio"] = constant > 0 ? Json(covered[0].mean_width / constant) : Json(nullptr);
  j["error_correlation"] = as_json(error_correlation(intervals.photos));
  j["sparsification_error"] = as_json(sparsification_error(intervals.photos));
  j["subsets"] = Json::object();
  for (size_t i = 1; i < covered.size(); ++i)
    j["subsets"][covered[i].subset] = {
        {"n", covered[i].n}, {"coverage", covered[i].coverage}, {"mean_width", covered[i].mean_width}};
  j["reliability"] = Json::array();
  for (const ChartPoint& p : intervals.reliability) j["reliability"].push_back({{"probability", p.x}, {"coverage", p.y}});
  j["pairs"] = Json::array();
  for (const ReliabilityBin& b : intervals.pairs)
    j["pairs"].push_back({{"probability", b.predicted}, {"observed", b.observed}, {"n", b.n}});
  return j;
}

std::string intervals_text(const EvalReport::Intervals& intervals) {
  const auto covered = coverages(intervals.photos);
  std::string text;
  for (const Coverage& c : covered)
    text += format("%-12s coverage %.3f, mean width %.2f\n",
                   c.subset.empty() ? format("%g%% interval", 100 * intervals.probability).c_str() : c.subset.c_str(),
                   c.coverage, c.mean_width);
  const double constant = constant_width(intervals.photos);
  if (constant > 0)
    text += format("%-12s %8.3f  of one width for all photos at equal coverage (%.2f)\n", "width", covered[0].mean_width / constant,
                   constant);
  const auto correlation = error_correlation(intervals.photos), sparsification = sparsification_error(intervals.photos);
  if (correlation) text += format("%-12s %8.3f  SRCC of the predicted deviation with the error\n", "deviation", *correlation);
  if (sparsification) text += format("%-12s %8.3f  area under the sparsification error, 0 is perfect\n", "", *sparsification);
  return text;
}

std::string intervals_charts(const EvalReport::Intervals& intervals) {
  std::vector<Series> subsets;
  for (const Coverage& c : coverages(intervals.photos)) subsets.push_back({c.subset.empty() ? "all photos" : c.subset, {c.coverage}});
  XyChart reliability{intervals.reliability, "probability of the interval", "share of opinions inside", 1, true, true},
      pairs{{}, "probability that a photo is better", "share of pairs where it is", 1, true, true},
      width{{}, "width of the interval", "error", 0, false, false};
  for (const ReliabilityBin& b : intervals.pairs) pairs.points.push_back({b.predicted, b.observed});
  for (const CalibratedPhoto& p : intervals.photos)
    width.points.push_back({p.interval.high - p.interval.low, std::abs(p.label - p.score)});
  return "<h2>Intervals</h2>\n" + strip_chart(subsets, format("coverage of the %g%% interval", 100 * intervals.probability)) +
         "<div>\n" + xy_chart(reliability) + xy_chart(pairs) + xy_chart(width) + "</div>\n";
}

std::string row(const char* name, std::optional<double> value, const std::optional<Interval>& between = {}) {
  std::string line = value ? format("%-12s %8.4f", name, *value) : format("%-12s undefined", name);
  if (between) line += format("  [%.4f, %.4f]", between->low, between->high);
  return line + "\n";
}

}  // namespace

std::string EvalReport::split() const { return header.value("split_sha256", ""); }

Json EvalReport::summary() const {
  const Agreement& a = agreement;
  Json metrics = {{"n", a.n},
                  {"failed", failed},
                  {"srcc", as_json(a.srcc)},
                  {"srcc_interval", interval(a.srcc_interval)},
                  {"plcc", as_json(a.plcc)},
                  {"plcc_interval", interval(a.plcc_interval)},
                  {"plcc_mapped", a.mapped ? as_json(a.mapped->plcc) : Json(nullptr)},
                  {"krcc", as_json(a.krcc)},
                  {"rmse", a.rmse},
                  {"rmse_mapped", a.mapped ? Json(a.mapped->rmse) : Json(nullptr)}};
  if (!subsets.empty()) metrics["subsets"] = Json::object();
  for (const auto& [name, within] : subsets)
    metrics["subsets"][name] = {{"n", within.n}, {"srcc", as_json(within.srcc)}, {"plcc", as_json(within.plcc)},
                                {"krcc", as_json(within.krcc)}, {"rmse", within.rmse}};
  if (intervals) metrics["intervals"] = intervals_json(*intervals);
  if (!split().empty()) metrics["split_sha256"] = split();
  return metrics;
}

std::string EvalReport::text() const {
  const Agreement& a = agreement;
  std::string text = format("%-12s %8lld", "n", static_cast<long long>(a.n));
  if (failed) text += format("  (%lld more failed)", static_cast<long long>(failed));
  text += '\n';
  text += row("SRCC", a.srcc, a.srcc_interval) + row("PLCC", a.plcc, a.plcc_interval);
  text += row("PLCC mapped", a.mapped ? a.mapped->plcc : std::nullopt) + row("KRCC", a.krcc) +
          row("RMSE", a.rmse);
  text += row("RMSE mapped", a.mapped ? std::optional(a.mapped->rmse) : std::nullopt);
  for (const auto& [name, within] : subsets)
    text += row(("SRCC " + name).c_str(), within.srcc, within.srcc_interval);
  if (intervals) text += intervals_text(*intervals);
  if (!split().empty()) text += format("%-12s test part, SHA-256 %s\n", "split", split().c_str());
  return text;
}

std::string EvalReport::json() const {
  Json rows = Json::array();
  for (size_t i = 0; i < photos.size(); ++i) {
    const Photo& p = photos[i];
    rows.push_back({{"image", p.name}, {"label", rounded(p.label)}, {"score", rounded(p.score)}});
    if (intervals) {
      const CalibratedPhoto& c = intervals->photos[i];
      rows.back()["low"] = rounded(c.interval.low), rows.back()["high"] = rounded(c.interval.high);
    }
    rows.back()["spread"] = rounded(p.spread);
  }
  return to_line({{"header", header}, {"metrics", summary()}, {"photos", rows}});
}

std::string EvalReport::csv() const {
  std::string text =
      csv_header(header) + csv_header(summary()) + (intervals ? "image,label,score,low,high,spread\n" : "image,label,score,spread\n");
  for (size_t i = 0; i < photos.size(); ++i) {
    const Photo& p = photos[i];
    text += csv_field(p.name) + format(",%.4f,%.4f", p.label, p.score);
    if (intervals) text += format(",%.4f,%.4f", intervals->photos[i].interval.low, intervals->photos[i].interval.high);
    text += format(",%.4f\n", p.spread);
  }
  return text;
}

std::string EvalReport::html() const {
  std::vector<double> predicted, opinions;
  for (const auto& p : photos) predicted.push_back(p.score), opinions.push_back(p.label);
  std::vector<std::vector<std::string>> made{{"made with", ""}};
  for (const auto& [key, value] : header.items())
    made.push_back({key, value.is_string() ? value.get<std::string>() : to_line(value)});
  Page page;
  page.heading(1, "Agreement with opinion scores");
  page.body += "<pre>" + escaped(this->text()) + "</pre>\n" + scatter_chart(predicted, opinions);
  page.paragraph(
      "Each point is a photo. The curve is the 4-parameter logistic fitted before PLCC mapped and RMSE mapped; brackets "
      "are 95% bootstrap intervals; RMSE is on 0-100.");
  if (intervals) page.body += intervals_charts(*intervals);
  page.table(made);
  return page.html("qfm eval");
}

}  // namespace qfm
