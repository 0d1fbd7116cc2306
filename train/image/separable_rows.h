// The inner loops of filter(), compiled twice: for any x86-64 or other processor, and for AVX2. Integers:
// equal bits. Plain pointers only, so that no inline function of a library is compiled with AVX2 and run
// without it.
#pragma once
#include <cstddef>
#include <cstdint>

namespace qfm {

// Weights are integers, 2^22 for 1.
inline constexpr int separable_fraction_bits = 22;

// Horizontal weights, each one three times (R, G, B), filled up with zeros to whole groups.
inline constexpr int separable_group = 24;
struct WideTaps {
  const int* first;        // (outputs)
  const int32_t* weights;  // (outputs, groups * separable_group)
  int outputs, groups;
};

#define QFM_SEPARABLE_ROWS                                                                              \
  /* One row of pixels. `in` may be read up to groups * separable_group bytes behind its last pixel. */ \
  void horizontal_row(uint8_t* out, const uint8_t* in, const WideTaps& taps);                           \
  /* One row of bytes from `count` rows, each `bytes` after the one before. */                          \
  void vertical_row(uint8_t* out, const uint8_t* in, size_t bytes, const int32_t* weights, int count);

namespace plain {
QFM_SEPARABLE_ROWS
}
namespace avx2 {
QFM_SEPARABLE_ROWS
}
#undef QFM_SEPARABLE_ROWS

}  // namespace qfm
