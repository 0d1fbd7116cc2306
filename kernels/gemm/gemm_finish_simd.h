// What surrounds a product's tile: rows cut into tiles, and the epilogue on vectors of C.
#pragma once
#include "kernels/common/simd.h"
#include "kernels/gemm/gemm.h"

namespace qfm::QFM_ISA {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// An even cut of at most kMost rows: tile t is [begin[t], begin[t + 1]).
template <int kRows, int64_t kMost>
struct TilesOf {
  int64_t rows, count, begin[kMost / kRows + 2];
  explicit TilesOf(int64_t rows) : rows(rows), count((rows + kRows - 1) / kRows) {
    for (int64_t t = 0; t <= count; ++t) begin[t] = rows * t / count;
  }
  int height(int64_t t) const { return static_cast<int>(begin[t + 1] - begin[t]); }
};

// Asks for the lines that finishing a tile of `columns` columns will touch of x, an (m, n) tensor or null, so that they
// come while the tile is multiplied.
template <class T>
void prefetch_tile(const T* x, int64_t n, int64_t row, int height, int64_t column, int64_t columns) {
  if (!x) return;
  const int64_t bytes = smaller(columns, n - column) * static_cast<int64_t>(sizeof(T));
  for (int64_t i = row; i < row + height; ++i) {
    const char* line = reinterpret_cast<const char*>(x + i * n + column);
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(line + at, 1);
  }
}

// The epilogue on a vector of C that begins at element `at`, column `column`. Lanes = Whole or Tail.
template <class T, class Out, class Lanes>
inline void finish(const GemmEpilogue<T>& e, vf v, Out* c, int64_t at, int64_t column, Lanes lanes) {
  if (e.bias) v = v + load(e.bias + column, lanes);
  if (e.pre_gelu) stream(e.pre_gelu + at, v, lanes);  // for the backward
  if (e.gelu) v = gelu(v);
  if (e.times_gelu_grad_of) v = v * gelu_grad(load(e.times_gelu_grad_of + at, lanes));
  if (e.residual) v = v + load(e.residual + at, lanes);
  store(c + at, v, lanes);
}

}  // namespace qfm::QFM_ISA
