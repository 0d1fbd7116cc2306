// Weights of an antialiased resampling of one axis, in double: of images (train/image) and of position embeddings.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace qfm {

// Keys' cubic with a = -0.5; 0 from |x| = 2 on.
inline double cubic_kernel(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// What one output takes: inputs first, first + 1, ..., with weights that sum to 1.
struct ResampledPoint {
  int64_t first = 0;
  std::vector<double> weights;
};

// Output i takes the inputs around (i + 0.5) * inputs / outputs, at most `support` away (in inputs), weighted
// by kernel(distance). To shrink without aliasing, stretch both by inputs / outputs. Only outputs [begin, end) are given.
template <class Kernel>
std::vector<ResampledPoint> resample_axis(int64_t inputs, int64_t outputs, double support, Kernel&& kernel, int64_t begin,
                                          int64_t end) {
  std::vector<ResampledPoint> points(static_cast<size_t>(end - begin));
  const double scale = static_cast<double>(inputs) / static_cast<double>(outputs);
  for (size_t i = 0; i < points.size(); ++i) {
    const double centre = (static_cast<double>(begin + static_cast<int64_t>(i)) + 0.5) * scale;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
    const auto last = std::min<int64_t>(inputs, static_cast<int64_t>(centre + support + 0.5));
    double sum = 0;
    for (int64_t k = first; k < last; ++k)
      sum += points[i].weights.emplace_back(kernel(static_cast<double>(k) - centre + 0.5));
    for (double& w : points[i].weights) w /= sum;
    points[i].first = first;
  }
  return points;
}

template <class Kernel>
std::vector<ResampledPoint> resample_axis(int64_t inputs, int64_t outputs, double support, Kernel&& kernel) {
  return resample_axis(inputs, outputs, support, kernel, 0, outputs);
}

}  // namespace qfm
