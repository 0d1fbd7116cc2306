// SSIM: Wang, Bovik, Sheikh and Simoncelli, 2004. MS-SSIM: Wang, Simoncelli and Bovik, 2003.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "train/full_reference/measures.h"
#include "train/full_reference/row_loops.h"

namespace qfm {
namespace {

constexpr int kQuantities = 4;  // x, y, x x + y y, x y

// The window along one axis, sum 1: its first half and the middle.
std::array<float, kSsimWindow / 2 + 1> gaussian_window() {
  std::array<double, kSsimWindow / 2 + 1> bell{};
  double sum = 0;
  for (int k = 0; k < static_cast<int>(bell.size()); ++k) {
    const int distance = kSsimWindow / 2 - k;
    bell[static_cast<size_t>(k)] = std::exp(-distance * distance / (2 * 1.5 * 1.5));
    sum += (distance ? 2 : 1) * bell[static_cast<size_t>(k)];
  }
  std::array<float, bell.size()> window;
  std::transform(bell.begin(), bell.end(), window.begin(),
                 [&](double b) { return static_cast<float>(b / sum); });
  return window;
}

}  // namespace

SsimMeans ssim_means(const Plane& x, const Plane& y, Plane* map) {
  const RowLoops& loops = row_loops();
  const auto window = gaussian_window();
  const int columns = x.width - kSsimWindow + 1, rows = x.height - kSsimWindow + 1;
  RowRing energy(x.width, kSsimWindow), product(x.width, kSsimWindow);
  Plane down(x.width, kQuantities), out(columns, 2);
  const float* const filtered[kQuantities] = {down.row(0), down.row(1), down.row(2), down.row(3)};
  SsimMeans sums;
  for (int y_end = 0; y_end < x.height; ++y_end) {
    loops.products(energy[y_end], product[y_end], x.row(y_end), y.row(y_end), x.width);
    const int top = y_end - kSsimWindow + 1;
    if (top < 0) continue;
    const float* taken[kQuantities][kSsimWindow];
    for (int k = 0; k < kSsimWindow; ++k) {
      taken[0][k] = x.row(top + k), taken[1][k] = y.row(top + k);
      taken[2][k] = energy[top + k], taken[3][k] = product[top + k];
    }
    for (int q = 0; q < kQuantities; ++q) loops.window_down(down.row(q), taken[q], window.data(), x.width);
    float* row = map ? map->row(top) : out.row(0);
    loops.ssim(row, out.row(1), filtered, window.data(), columns);
    sums.ssim += loops.sum(row, columns);
    sums.not_below_0 += loops.sum_positive(row, columns);
    sums.contrast += loops.sum(out.row(1), columns);
  }
  const double count = static_cast<double>(rows) * columns;
  return {sums.ssim / count, sums.not_below_0 / count, sums.contrast / count};
}

Plane halved(const Plane& plane, OddSide odd) {
  const RowLoops& loops = row_loops();
  const int add = odd == OddSide::ZerosInFront;
  Plane half((plane.width + add) / 2, (plane.height + add) / 2);
  const std::vector<float> zeros(static_cast<size_t>(plane.width + 2));
  const int left = add * (plane.width % 2), top = add * (plane.height % 2);
  for (int y = 0; y < half.height; ++y) {
    const int first = 2 * y - top;
    const float* above = first < 0 ? zeros.data() : plane.row(first) - left;
    loops.halve(half.row(y), above, plane.row(first + 1) - left, half.width);
  }
  return half;
}

double ms_ssim(const SsimMeans& finest, const Plane& x, const Plane& y) {
  constexpr std::array<double, 5> exponents{0.0448, 0.2856, 0.3001, 0.2363, 0.1333};
  double value = std::pow(finest.contrast, exponents[0]);
  Plane a, b;
  for (size_t scale = 1; scale < exponents.size(); ++scale) {
    a = halved(scale == 1 ? x : a, OddSide::ZerosInFront),
    b = halved(scale == 1 ? y : b, OddSide::ZerosInFront);
    const SsimMeans means = ssim_means(a, b);
    value *= std::pow(scale + 1 < exponents.size() ? means.contrast : means.not_below_0, exponents[scale]);
  }
  return value;
}

}  // namespace qfm
