#include "tools/eval_report.h"

#include <algorithm>

#include "tools/console.h"

namespace qfm {
namespace {

Json number(std::optional<double> value) { return value ? Json(*value) : Json(nullptr); }
Json interval(const std::optional<Interval>& i) { return i ? Json{i->low, i->high} : Json(nullptr); }

std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

// Maps both axes of the plot: prediction to the right, label upwards.
struct Axes {
  static constexpr double kLeft = 50, kTop = 15, kSide = 440;
  double low, high;
  double x(double v) const { return kLeft + kSide * (v - low) / (high - low); }
  double y(double v) const { return kTop + kSide * (high - v) / (high - low); }
};

Axes axes_of(const std::vector<EvalReport::Photo>& photos) {
  Axes axes{0, 100};
  for (const auto& p : photos) {
    axes.low = std::min({axes.low, p.label, p.score});
    axes.high = std::max({axes.high, p.label, p.score});
  }
  return axes;
}

std::string scatter_plot(const EvalReport& report) {
  const Axes a = axes_of(report.photos);
  std::string svg =
      "<svg viewBox=\"0 0 510 505\" width=\"510\" height=\"505\" role=\"img\" aria-label=\"scatter plot\">\n";
  svg += format("<rect x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" fill=\"none\" stroke=\"#888\"/>\n",
                Axes::kLeft, Axes::kTop, Axes::kSide, Axes::kSide);
  for (int k = 0; k <= 4; ++k) {
    const double v = a.low + (a.high - a.low) * k / 4;
    svg += format("<text x=\"%.1f\" y=\"470\" text-anchor=\"middle\">%.0f</text>", a.x(v), v);
    svg += format("<text x=\"44\" y=\"%.1f\" text-anchor=\"end\">%.0f</text>\n", a.y(v) + 4, v);
  }
  svg += "<text x=\"270\" y=\"495\" text-anchor=\"middle\">predicted quality</text>";
  svg +=
      "<text transform=\"translate(13 235) rotate(-90)\" text-anchor=\"middle\">opinion score</text>\n<g "
      "fill=\"#06c\" "
      "fill-opacity=\"0.45\">\n";
  for (const auto& p : report.photos)
    svg += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.2\"/>\n", a.x(p.score), a.y(p.label));
  svg += "</g>\n";
  if (const auto& curve = report.agreement.mapped) {
    svg += "<polyline fill=\"none\" stroke=\"#c30\" stroke-width=\"2\" points=\"";
    const auto [least, most] = std::minmax_element(report.photos.begin(), report.photos.end(),
                                                   [](auto& p, auto& q) { return p.score < q.score; });
    for (int k = 0; k <= 100; ++k) {
      const double v = least->score + (most->score - least->score) * k / 100;
      svg += format("%.1f,%.1f ", a.x(v), a.y((*curve)(v)));
    }
    svg += "\"/>\n";
  }
  return svg + "</svg>\n";
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
                  {"srcc", number(a.srcc)},
                  {"srcc_interval", interval(a.srcc_interval)},
                  {"plcc", number(a.plcc)},
                  {"plcc_interval", interval(a.plcc_interval)},
                  {"plcc_mapped", a.mapped ? number(a.mapped->plcc) : Json(nullptr)},
                  {"krcc", number(a.krcc)},
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
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>qfm eval</title>\n"
      "<style>body{font:14px sans-serif;margin:2em;max-width:60em}pre{font-size:14px}svg{font-size:11px}"
      "td{padding:.1em 1em .1em 0}</style></head><body>\n<h1>Agreement with opinion scores</h1>\n";
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
