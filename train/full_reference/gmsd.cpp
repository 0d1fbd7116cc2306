// Gradient magnitude similarity deviation: Xue, Zhang, Mou and Bovik, 2014.
#include <algorithm>
#include <cmath>

#include "train/full_reference/measures.h"
#include "train/full_reference/row_loops.h"

namespace qfm {

double gmsd(const Plane& x, const Plane& y) {
  const RowLoops& loops = row_loops();
  const Plane a = halved(x, OddSide::LeftOut), b = halved(y, OddSide::LeftOut);
  const int width = a.width, height = a.height;
  Plane zeros(width, 1), difference(width, 1);
  std::fill_n(zeros.row(0), width, 0.0f);
  const auto row_of = [&](const Plane& plane, int at) -> const float* {
    return at < 0 || at >= height ? zeros.row(0) : plane.row(at);
  };
  double sum = 0, squares = 0;
  for (int at = 0; at < height; ++at) {
    const float* const of_a[3] = {row_of(a, at - 1), row_of(a, at), row_of(a, at + 1)};
    const float* const of_b[3] = {row_of(b, at - 1), row_of(b, at), row_of(b, at + 1)};
    loops.gradient_difference(difference.row(0), of_a, of_b, width);
    sum += loops.sum(difference.row(0), width), squares += loops.sum_squares(difference.row(0), width);
  }
  const double count = static_cast<double>(width) * height;
  return std::sqrt(std::max(0.0, (squares - sum * sum / count) / (count - 1)));
}

}  // namespace qfm
