// Charts for reports: SVG text that stands in an HTML page and follows its colours, light or dark.
#pragma once
#include <string>
#include <vector>

namespace qfm {

// & < > " as entities.
std::string escaped(const std::string& text);
// The <style> of a page whose charts are made here: readable on a light and on a dark screen.
std::string page_style();

struct ChartPoint {
  double x, y;
};
// A point a photo on one scale of at least 0 to 100, and the logistic curve fitted to them.
std::string scatter_chart(const std::vector<double>& predicted, const std::vector<double>& opinions);

// Points, and the line on which both sides are equal where `diagonal`; each axis over the range of its values and [0, least].
struct XyChart {
  std::vector<ChartPoint> points;
  std::string across, up;
  double least = 0;
  bool diagonal = false, joined = false;  // joined: a line through the points
};
std::string xy_chart(const XyChart& chart);

struct Series {
  std::string name;
  std::vector<double> values;
};
// One row a series, a dot a value, a bar at the median; `what` names the axis.
std::string strip_chart(const std::vector<Series>& groups, const std::string& what);
// One line a series over 1, 2, 3, ...; the vertical axis is logarithmic where all values are above 0.
std::string line_chart(const std::vector<Series>& lines, const std::string& across, const std::string& up);

}  // namespace qfm
