// Weights in eight bits: w (rows, cols) is about q * scale, one scale for a row (an output of the product).
//
//   scale = max |w| / 127, cut to its 16 leading bits;   q = w / scale, rounded to nearest even: -127 .. 127
//
// A product of 7 and 16 bits is exact in F32: weights that are rounded once give the same q and scale again. A row of
// zeros has scale 1; so has one whose scale would be no normal number: it is rounded to zeros.
#pragma once
#include <cstdint>

namespace qfm {

// False where a weight is not finite: q and scale are then not to be used.
bool quantise_rows(int8_t* q, float* scale, const float* w, int64_t rows, int64_t cols);
// w = q * scale, exactly.
void dequantise_rows(float* w, const int8_t* q, const float* scale, int64_t rows, int64_t cols);
// What quantise_rows can give: positive, normal, of 16 leading bits, and 127 times it is finite.
bool is_int8_scale(float scale);

}  // namespace qfm
