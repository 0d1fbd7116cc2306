#include "tools/cli/charts.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "tools/cli/console.h"
#include "train/metrics/metrics.h"
#include "train/metrics/paired_tests.h"

namespace qfm {
namespace {

// Colours of the series, .s0 .. .s11 of page_style: apart from each other and from the paper.
struct Ink {
  const char *light, *dark;
};
constexpr Ink kInks[] = {{"#0a6bc4", "#6db3f2"}, {"#c4480a", "#ff9a66"}, {"#2f8a3c", "#7fd08a"},
                         {"#8a3ca8", "#d39af0"}, {"#a07800", "#e6c35c"}, {"#666666", "#aaaaaa"},
                         {"#d81b72", "#ff6fae"}, {"#00868f", "#3fd6e0"}, {"#6d3b22", "#c79a7e"},
                         {"#1c1c8c", "#9aa4ff"}, {"#6b8e00", "#c3e84a"}, {"#111111", "#ffffff"}};
// Neighbours differ without colours too, and no two of 48 lines are alike in both.
constexpr const char* kDashes[] = {"none", "7 3", "2 2", "9 3 2 3"};

std::string ink_class(size_t i) { return format("class=\"s%zu\"", i % std::size(kInks)); }
std::string dash_of(size_t i) {
  return format("stroke-dasharray=\"%s\"", kDashes[(i + i / std::size(kInks)) % std::size(kDashes)]);
}

// Room for the longest name at the charts' font size, on the safe side: letters of other scripts are wider.
double label_width(const std::vector<Series>& series) {
  double widest = 0;
  for (const auto& s : series) {
    double width = 0;
    for (unsigned char c : s.name) width += c < 0x80 ? 6 : c >= 0xe0 ? 12 : c >= 0xc0 ? 7 : 0;
    widest = std::max(widest, width);
  }
  return widest;
}

// Values to pixels along one side.
struct Axis {
  double low, high, from, to;
  double operator()(double v) const { return from + (to - from) * (v - low) / (high - low); }
};

Axis axis_over(double low, double high, double from, double to) {
  if (!(low < high)) low -= 0.5, high += 0.5;
  return {low, high, from, to};
}

std::string svg(double width, double height, const char* label, const std::string& body) {
  return format("<svg viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\" role=\"img\" aria-label=\"%s\">\n",
                width, height, width, height, label) +
         body + "</svg>\n";
}

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor) + escaped(text) +
         "</text>\n";
}

std::string ticks(const Axis& across, double y, const char* shape) {
  std::string out;
  for (int k = 0; k <= 4; ++k) {
    const double v = across.low + (across.high - across.low) * k / 4;
    out += text_at(across(v), y, "middle", format(shape, v));
  }
  return out;
}

}  // namespace

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

std::string page_style() {
  std::string light, dark, classes;
  for (size_t i = 0; i < std::size(kInks); ++i) {
    light += format(";--s%zu:%s", i, kInks[i].light), dark += format(";--s%zu:%s", i, kInks[i].dark);
    classes += format(".s%zu{color:var(--s%zu)}", i, i);
  }
  return "<style>\n:root{color-scheme:light dark;--ink:#222;--paper:#fff;--line:#999" + light +
         "}\n@media(prefers-color-scheme:dark){:root{--ink:#ddd;--paper:#181818;--line:#777" + dark + "}}\n" +
         "body{font:14px sans-serif;margin:2em;max-width:70em;color:var(--ink);background:var(--paper)}\n"
         "pre{font-size:14px}table{border-collapse:collapse}td,th{padding:.15em 1em .15em "
         "0;text-align:left}.figures td:nth-child(2){white-space:nowrap}\n"
         "svg{font-size:11px;max-width:100%;height:auto}svg "
         "text{fill:var(--ink)}.frame{fill:none;stroke:var(--line)}\n" +
         classes +
         "\ncircle{fill:currentColor;fill-opacity:.5}polyline{fill:none;stroke:currentColor;stroke-width:2}\n"
         "</style>\n";
}

std::string scatter_chart(const std::vector<double>& predicted, const std::vector<double>& opinions) {
  const auto [least, most] = std::minmax_element(predicted.begin(), predicted.end());
  const auto [worst, best] = std::minmax_element(opinions.begin(), opinions.end());
  const double low = std::min({0.0, *least, *worst}), high = std::max({100.0, *most, *best});
  const Axis x{low, high, 50, 490}, y{low, high, 455, 15};
  std::string body =
      "<rect class=\"frame\" x=\"50\" y=\"15\" width=\"440\" height=\"440\"/>\n" + ticks(x, 470, "%.0f");
  for (int k = 0; k <= 4; ++k) {
    const double v = low + (high - low) * k / 4;
    body += text_at(44, y(v) + 4, "end", format("%.0f", v));
  }
  body += text_at(270, 495, "middle", "predicted quality");
  body +=
      "<text transform=\"translate(13 235) rotate(-90)\" text-anchor=\"middle\">opinion score</text>\n<g "
      "class=\"s0\">\n";
  for (size_t i = 0; i < predicted.size(); ++i)
    body += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.2\"/>\n", x(predicted[i]), y(opinions[i]));
  body += "</g>\n";
  if (const auto curve = fit_logistic(predicted, opinions)) {
    body += "<g class=\"s1\"><polyline points=\"";
    for (int k = 0; k <= 100; ++k) {
      const double v = *least + (*most - *least) * k / 100;
      body += format("%.1f,%.1f ", x(v), y(std::clamp((*curve)(v), low, high)));
    }
    body += "\"/></g>\n";
  }
  return svg(510, 505, "scatter plot", body);
}

std::string xy_chart(const XyChart& chart) {
  double right = chart.least, top = chart.least;
  for (const auto& p : chart.points) right = std::max(right, p.x), top = std::max(top, p.y);
  if (chart.diagonal) right = top = std::max(right, top);
  const Axis x = axis_over(0, right, 60, 360), y = axis_over(0, top, 315, 15);
  std::string body = "<rect class=\"frame\" x=\"60\" y=\"15\" width=\"300\" height=\"300\"/>\n" + ticks(x, 330, "%.3g");
  for (int k = 0; k <= 4; ++k) body += text_at(54, y(top * k / 4) + 4, "end", format("%.3g", top * k / 4));
  body += text_at(210, 350, "middle", chart.across) +
          "<text transform=\"translate(13 165) rotate(-90)\" text-anchor=\"middle\">" + escaped(chart.up) + "</text>\n";
  if (chart.diagonal)
    body += format("<g class=\"s5\"><polyline stroke-dasharray=\"2 2\" points=\"%.1f,%.1f %.1f,%.1f\"/></g>\n", x(0), y(0),
                   x(right), y(top));
  body += "<g class=\"s0\">\n";
  for (const auto& p : chart.points)
    body += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\"/>\n", x(p.x), y(p.y), chart.joined ? 3.5 : 2.2);
  if (chart.joined) {
    body += "<polyline points=\"";
    for (const auto& p : chart.points) body += format("%.1f,%.1f ", x(p.x), y(p.y));
    body += "\"/>\n";
  }
  return svg(380, 360, (chart.up + " over " + chart.across).c_str(), body + "</g>\n");
}

std::string strip_chart(const std::vector<Series>& groups, const std::string& what) {
  double low = std::numeric_limits<double>::max(), high = std::numeric_limits<double>::lowest();
  for (const auto& g : groups)
    for (double v : g.values) low = std::min(low, v), high = std::max(high, v);
  const double rows = 26.0 * static_cast<double>(groups.size()),
               left = std::max(label_width(groups), 60.0) + 15;
  const Axis x = axis_over(low, high, left + 15, left + 435);
  std::string body =
      format("<rect class=\"frame\" x=\"%g\" y=\"10\" width=\"450\" height=\"%g\"/>\n", left, rows);
  for (size_t i = 0; i < groups.size(); ++i) {
    const double y = 23 + 26.0 * static_cast<double>(i);
    body += text_at(left - 7, y + 4, "end", groups[i].name) + "<g " + ink_class(i) + ">\n";
    for (double v : groups[i].values) body += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n", x(v), y);
    if (!groups[i].values.empty()) {
      const double m = x(median(groups[i].values));
      body += format("<polyline points=\"%.1f,%.1f %.1f,%.1f\"/>\n", m, y - 9, m, y + 9);
    }
    body += "</g>\n";
  }
  if (low <= high) body += ticks(x, rows + 25, "%.4f");
  return svg(left + 475, rows + 48, "strip chart", body + text_at(left + 225, rows + 42, "middle", what));
}

std::string line_chart(const std::vector<Series>& lines, const std::string& across, const std::string& up) {
  double low = std::numeric_limits<double>::max(), high = std::numeric_limits<double>::lowest();
  size_t length = 1;
  for (const auto& l : lines) {
    length = std::max(length, l.values.size());
    for (double v : l.values) low = std::min(low, v), high = std::max(high, v);
  }
  const bool logarithmic = low > 0;
  const auto shown = [&](double v) { return logarithmic ? std::log10(v) : v; };
  const Axis x = axis_over(1, static_cast<double>(length), 60, 460),
             y = axis_over(shown(low), shown(high), 255, 20);
  std::string body = "<rect class=\"frame\" x=\"50\" y=\"10\" width=\"420\" height=\"255\"/>\n";
  for (int k = 0; k <= 4 && low <= high; ++k) {
    const double v = y.low + (y.high - y.low) * k / 4;
    body += text_at(44, y(v) + 4, "end", format("%.3g", logarithmic ? std::pow(10.0, v) : v));
  }
  body += text_at(60, 280, "middle", "1") + text_at(460, 280, "middle", std::to_string(length)) +
          text_at(260, 296, "middle", across) +
          "<text transform=\"translate(10 140) rotate(-90)\" text-anchor=\"middle\">" + escaped(up) +
          "</text>\n";
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string dash = dash_of(i);
    body += "<g " + ink_class(i) + "><polyline " + dash + " points=\"";
    for (size_t k = 0; k < lines[i].values.size(); ++k)
      body += format("%.1f,%.1f ", x(static_cast<double>(k + 1)), y(shown(lines[i].values[k])));
    const double at = 22 + 16.0 * static_cast<double>(i);
    body += "\"/><polyline " + dash + format(" points=\"485,%.1f 525,%.1f\"/></g>\n", at, at) +
            text_at(532, at + 4, "start", lines[i].name);
  }
  return svg(540 + label_width(lines), std::max(300.0, 22 + 16.0 * static_cast<double>(lines.size())),
             "line chart", body);
}

}  // namespace qfm
