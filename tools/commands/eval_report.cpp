#include "tools/commands/eval_report.h"

#include "tools/cli/charts.h"
#include "tools/cli/console.h"
#include "train/data/csv_field.h"

namespace qfm {
namespace {

Json interval(const std::optional<Interval>& i) { return i ? Json{i->low, i->high} : Json(nullptr); }

std::string scatter_plot(const EvalReport& report) {
  std::vector<ChartPoint> points;
  for (const auto& p : report.photos) points.push_back({p.score, p.label});
  const auto& curve = report.agreement.mapped;
  return scatter_chart(points, curve ? std::function<double(double)>(*curve) : nullptr);
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
  if (!split().empty()) text += format("%-12s test part, SHA-256 %s\n", "split", split().c_str());
  return text;
}

std::string EvalReport::json() const {
  Json rows = Json::array();
  for (const auto& p : photos)
    rows.push_back({{"image", p.name},
                    {"label", rounded(p.label)},
                    {"score", rounded(p.score)},
                    {"spread", rounded(p.spread)}});
  return to_line({{"header", header}, {"metrics", summary()}, {"photos", rows}});
}

std::string EvalReport::csv() const {
  std::string text = csv_header(header) + csv_header(summary()) + "image,label,score,spread\n";
  for (const auto& p : photos)
    text += csv_field(p.name) + format(",%.4f,%.4f,%.4f\n", p.label, p.score, p.spread);
  return text;
}

std::string EvalReport::html() const {
  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>qfm eval</title>\n" +
      page_style() + "</head><body>\n<h1>Agreement with opinion scores</h1>\n";
  page += "<pre>" + escaped(this->text()) + "</pre>\n" + scatter_plot(*this);
  page +=
      "<p>Each point is a photo. The curve is the 4-parameter logistic fitted before PLCC mapped and RMSE "
      "mapped; "
      "brackets are 95% bootstrap intervals; RMSE is on 0-100.</p>\n<table>\n";
  for (const auto& [key, value] : header.items())
    page += "<tr><td>" + escaped(key) + "</td><td>" +
            escaped(value.is_string() ? value.get<std::string>() : to_line(value)) + "</td></tr>\n";
  return page + "</table>\n</body></html>\n";
}

}  // namespace qfm
