// How gemm_int8.cpp hands its work to the code of a path: W packed in panels of columns of C, C cut into blocks.
#pragma once
#include "kernels/gemm/gemm_int8.h"

namespace qfm {

// A panel holds, as words of 32 bits, [k / 4][kInt8Panel] words of four numbers along k, filled up with zeros; then for
// each column 128 times the sum of its numbers, an integer: what a sum has too much where A's bytes, which are 128 too
// large, are multiplied as they are; then the columns' scales.
inline constexpr int64_t kInt8Panel = 32;
constexpr int64_t int8_panel_words(int64_t k) { return ((k + 3) / 4 + 2) * kInt8Panel; }

// Some rows of C, at most kInt8BlockRows, all columns: c, a and the epilogue's residual begin with the first of them.
inline constexpr int64_t kInt8BlockRows = 70;
struct GemmInt8Block {
  int64_t rows, n, k;
  float* c;
  const uint8_t* a;
  const float* b;  // packed
  GemmEpilogue<float> epilogue;
};

}  // namespace qfm
