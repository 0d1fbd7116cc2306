#include "tools/charts.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tools/console.h"
#include "train/paired_tests.h"

namespace qfm {
namespace {

constexpr int kColours = 6;  // .s0 .. .s5 of page_style

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
  return "<style>\n"
         ":root{color-scheme:light "
         "dark;--ink:#222;--paper:#fff;--line:#999;--s0:#0a6bc4;--s1:#c4480a;--s2:#2f8a3c;"
         "--s3:#8a3ca8;--s4:#a07800;--s5:#555}\n"
         "@media(prefers-color-scheme:dark){:root{--ink:#ddd;--paper:#181818;--line:#777;--s0:#6db3f2;--s1:#"
         "ff9a66;"
         "--s2:#7fd08a;--s3:#d39af0;--s4:#e6c35c;--s5:#bbb}}\n"
         "body{font:14px sans-serif;margin:2em;max-width:70em;color:var(--ink);background:var(--paper)}\n"
         "pre{font-size:14px}table{border-collapse:collapse}td,th{padding:.15em 1em .15em "
         "0;text-align:left}\n"
         "svg{font-size:11px;max-width:100%;height:auto}svg "
         "text{fill:var(--ink)}.frame{fill:none;stroke:var(--line)}\n"
         ".s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}.s4{color:var(--s4)"
         "}"
         ".s5{color:var(--s5)}\n"
         "circle{fill:currentColor;fill-opacity:.5}polyline{fill:none;stroke:currentColor;stroke-width:2}\n"
         "</style>\n";
}

std::string scatter_chart(const std::vector<ChartPoint>& points, const std::function<double(double)>& curve) {
  double low = 0, high = 100, least = std::numeric_limits<double>::max(),
         most = std::numeric_limits<double>::lowest();
  for (const auto& p : points) {
    low = std::min({low, p.x, p.y}), high = std::max({high, p.x, p.y});
    least = std::min(least, p.x), most = std::max(most, p.x);
  }
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
  for (const auto& p : points)
    body += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.2\"/>\n", x(p.x), y(p.y));
  body += "</g>\n";
  if (curve && !points.empty()) {
    body += "<g class=\"s1\"><polyline points=\"";
    for (int k = 0; k <= 100; ++k) {
      const double v = least + (most - least) * k / 100;
      body += format("%.1f,%.1f ", x(v), y(std::clamp(curve(v), low, high)));
    }
    body += "\"/></g>\n";
  }
  return svg(510, 505, "scatter plot", body);
}

std::string strip_chart(const std::vector<Series>& groups, const std::string& what) {
  double low = std::numeric_limits<double>::max(), high = std::numeric_limits<double>::lowest();
  for (const auto& g : groups)
    for (double v : g.values) low = std::min(low, v), high = std::max(high, v);
  const double rows = 26.0 * static_cast<double>(groups.size());
  const Axis x = axis_over(low, high, 180, 600);
  std::string body = format("<rect class=\"frame\" x=\"165\" y=\"10\" width=\"450\" height=\"%g\"/>\n", rows);
  for (size_t i = 0; i < groups.size(); ++i) {
    const double y = 23 + 26.0 * static_cast<double>(i);
    body += text_at(158, y + 4, "end", groups[i].name) + format("<g class=\"s%zu\">\n", i % kColours);
    for (double v : groups[i].values) body += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n", x(v), y);
    if (!groups[i].values.empty()) {
      const double m = x(median(groups[i].values));
      body += format("<polyline points=\"%.1f,%.1f %.1f,%.1f\"/>\n", m, y - 9, m, y + 9);
    }
    body += "</g>\n";
  }
  if (low <= high) body += ticks(x, rows + 25, "%.4f");
  return svg(640, rows + 48, "strip chart", body + text_at(390, rows + 42, "middle", what));
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
    const std::string colour = format("<g class=\"s%zu\">", i % kColours);
    body += colour + "<polyline points=\"";
    for (size_t k = 0; k < lines[i].values.size(); ++k)
      body += format("%.1f,%.1f ", x(static_cast<double>(k + 1)), y(shown(lines[i].values[k])));
    const double at = 22 + 16.0 * static_cast<double>(i);
    body += format("\"/><polyline points=\"485,%.1f 505,%.1f\"/></g>\n", at, at) +
            text_at(510, at + 4, "start", lines[i].name);
  }
  return svg(680, 300, "line chart", body);
}

}  // namespace qfm
