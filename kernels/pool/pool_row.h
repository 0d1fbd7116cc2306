// What the plain and the vector code of pooling are called with.
#pragma once
#include <cstdint>

namespace qfm {

// Results [begin, end) of one row. Result j sees `rows` x `taps` elements of its plane, all inside: (u, v) is element
// first + j stride + u row_step + v tap_step.
struct PoolRow {
  int64_t begin, end;
  int64_t first, stride;
  int64_t rows, row_step, taps, tap_step;
  int64_t count;  // that a mean divides by
};

}  // namespace qfm
