// One axis of a resize as a table, forward or backward: output j is the sum of weight[k * stride + j] times element
// first[j] + k over k < taps. Made once for all rows; for vector code it ends on whole vectors.
#pragma once
#include <cstdint>

namespace qfm {

inline constexpr int64_t kResizePad = 16;  // entries of a vector at most
inline constexpr int64_t kResizeRoom =
    2 * kResizePad;  // elements past a line and its taps that vector code may look at

template <class A>
struct ResizeTaps {
  int64_t in, out, taps, stride;
  int32_t* first;
  A* weight;  // 0 where an output has fewer taps: those are the last, and may lie past the end
};

}  // namespace qfm
