// One axis of a bilinear resize. Output i lies at the position
//   (2 i + 1) in / (2 out) - 1/2, but not before 0,     or, corners on corners,     i (in - 1) / (out - 1)
// between the elements `low` and low + 1: the second weighs `weight`, the first the rest. Positions are fractions of
// whole numbers, which every device finds alike, and which have an exact inverse: the outputs that see an element.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"

namespace qfm {

template <class A>
struct ResizeTap {
  int64_t low;
  A weight;  // of low + 1; 0 for the last element, which has no next
};

struct ResizeAxis {
  int64_t in, out;
  int64_t step, offset, whole;  // output i lies at (i step + offset) / whole

  QFM_HD ResizeAxis(int64_t in_size, int64_t out_size, bool align_corners) : in(in_size), out(out_size) {
    step = align_corners ? in - 1 : 2 * in;
    offset = align_corners ? 0 : in - out;
    whole = !align_corners ? 2 * out : out > 1 ? out - 1 : 1;
  }
  template <class A>
  QFM_HD ResizeTap<A> at(int64_t i) const {
    const int64_t position = i * step + offset;
    if (position <= 0) return {0, A(0)};
    const int64_t low = position / whole;
    if (low >= in - 1) return {in - 1, A(0)};
    return {low, static_cast<A>(position - low * whole) / static_cast<A>(whole)};
  }
  // The first output whose low is `element` or later. [first(e - 1), first(e + 1)) see element e.
  QFM_HD int64_t first(int64_t element) const {
    if (element <= 0) return 0;
    if (element >= in) return out;
    const int64_t least = element * whole - offset;  // that i step must reach
    const int64_t i = least <= 0 ? 0 : (least + step - 1) / step;
    return i < out ? i : out;
  }
  // Of element e for output i of that range.
  template <class A>
  QFM_HD A weight(int64_t i, int64_t e) const {
    const ResizeTap<A> tap = at<A>(i);
    return tap.low == e ? 1 - tap.weight : tap.weight;
  }
};

}  // namespace qfm
