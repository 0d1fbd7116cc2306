// The columns of a resize as tables, made once for all rows; for vector code they end on whole vectors.
#pragma once
#include <cstdint>

namespace qfm {

inline constexpr int64_t kResizePad = 16;  // entries of a vector at most
inline constexpr int64_t kResizeRoom =
    2 * kResizePad + 1;  // elements past a line that vector code may look at

// Output column j lies between low[j] and the next, which weighs weight[j].
template <class A>
struct ResizeColumns {
  int64_t in, out;
  const int32_t* low;
  const A* weight;
};
// Element c is seen by the outputs first[c] + k, k < taps, weighing weight[k * stride + c] (0 past the last).
template <class A>
struct ResizeColumnsBackward {
  int64_t in, out, taps, stride;
  const int32_t* first;
  const A* weight;
};

}  // namespace qfm
