// From a coordinate to the four elements around it: sample_bilinear.h has the formula.
#pragma once
#include <cstdint>

#include "kernels/sampling/sample_bilinear.h"

namespace qfm {

// Along one axis: the elements low and low + 1, the second weighing `rest`; slope = d position / d coordinate.
template <class A>
struct SampleAxis {
  int32_t low;
  A rest, slope;

  QFM_HD SampleAxis(A coordinate, int64_t size, SamplePadding padding, bool align_corners) {
    const A n = static_cast<A>(size), last = n - 1;
    coordinate = coordinate > kSampleFar ? kSampleFar : coordinate < -kSampleFar ? -kSampleFar : coordinate;
    slope = (align_corners ? last : n) / 2;
    A position = align_corners ? (coordinate + 1) * slope : ((coordinate + 1) * n - 1) / 2;
    if (padding == SamplePadding::Border && position <= 0) position = 0, slope = 0;
    if (padding == SamplePadding::Border && position >= last) position = last, slope = 0;
    if (position > -1 && position < n) {
      low = static_cast<int32_t>(position);
      if (position < 0) low = -1;
      rest = position - static_cast<A>(low);
    } else {  // outside, with both neighbours; NaN comes here too and stays
      low = -2;
      rest = slope = position == position ? A(0) : position;
    }
  }
};

template <class A>
struct SamplePoint {
  // Upper left, upper right, lower left, lower right: where in the plane; its end for one outside.
  int32_t at[4];
  A x, y;  // what the right and the lower elements weigh
  A slope_x, slope_y;

  SamplePoint() = default;
  QFM_HD SamplePoint(const SampleShape& s, const A* coordinate) {
    const SampleAxis<A> across(coordinate[0], s.width, s.padding, s.align_corners);
    const SampleAxis<A> down(coordinate[1], s.height, s.padding, s.align_corners);
    for (int k = 0; k < 4; ++k) {
      const int32_t column = across.low + k % 2, row = down.low + k / 2;
      const bool inside = column >= 0 && column < s.width && row >= 0 && row < s.height;
      at[k] = static_cast<int32_t>(inside ? row * s.width + column : s.plane());
    }
    x = across.rest, y = down.rest, slope_x = across.slope, slope_y = down.slope;
  }
  QFM_HD A weight(int k) const { return (k % 2 ? x : 1 - x) * (k / 2 ? y : 1 - y); }
};

}  // namespace qfm
