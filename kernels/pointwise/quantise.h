// Rows of 8-bit numbers: what products of 8-bit numbers (gemm/gemm_int8.h) read on their left side.
//
// A row of x, a token, becomes q = round(127 x / max |x|), -127 .. 127, ties to even; x is about q * scale with
// scale = max |x| / 127. It is stored as
//   cols bytes q + 128, bytes 128 up to a multiple of four, then the scale, a float
// A row whose largest number is below 1e-30 counts as zeros: q = 0, scale = 0. One that holds a NaN or an infinity has
// q = 0 and the scale NaN: whatever is made of it is NaN. Same bytes on every path.
#pragma once
#include <cstdint>

#include "engine/memory/device.h"

namespace qfm {

inline constexpr float kLeastQuantised = 1e-30f;
// Bytes of the numbers of a row, and of the row; a buffer of rows is aligned to four bytes.
constexpr int64_t int8_words_bytes(int64_t cols) { return (cols + 3) / 4 * 4; }
constexpr int64_t int8_row_bytes(int64_t cols) { return int8_words_bytes(cols) + 4; }

// x (rows, cols), q (rows, int8_row_bytes(cols)).
void quantise_tokens(Cpu, uint8_t* q, const float* x, int64_t rows, int64_t cols);

}  // namespace qfm
