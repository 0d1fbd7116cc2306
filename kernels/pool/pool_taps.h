// Which elements of an axis a position of pooling sees, and which positions see an element.
#pragma once
#include <algorithm>
#include <cstdint>

#include "engine/base/dtype.h"
#include "kernels/common/window.h"

namespace qfm {

struct Span {
  int64_t begin, end;
  QFM_HD int64_t size() const { return end > begin ? end - begin : 0; }
};

// The taps of a window's position that lie inside an axis of `in` elements.
QFM_HD inline Span taps_inside(const Window& w, int64_t position, int64_t in) {
  const int64_t first = position * w.stride - w.pad_begin, step = w.dilation;
  const int64_t begin = first < 0 ? (-first + step - 1) / step : 0;
  const int64_t end = first >= in ? 0 : (in - first + step - 1) / step;
  return {begin, end < w.size ? end : w.size};
}

// The positions of `count` whose window may hold element i: all with dilation 1, else those with
// (i + pad_begin - position stride) divisible by it.
QFM_HD inline Span positions_over(const Window& w, int64_t i, int64_t count) {
  const int64_t at = i + w.pad_begin, room = at - ((w.size - 1) * w.dilation + 1);
  const int64_t begin = room < 0 ? 0 : room / w.stride + 1, end = at / w.stride + 1;
  return {begin, end < count ? end : count};
}

// The elements that output i of `out` means over in adaptive pooling, and the outputs that mean over element i.
QFM_HD inline Span adaptive_span(int64_t i, int64_t in, int64_t out) {
  return {i * in / out, ((i + 1) * in + out - 1) / out};
}
QFM_HD inline Span adaptive_outputs(int64_t i, int64_t in, int64_t out) { return adaptive_span(i, out, in); }

}  // namespace qfm
