#include "kernels/gemm/gemm_block.h"
#include "kernels/gemm/gemm_finish_simd.h"
#include "kernels/gemm/gemm_tile.h"

namespace qfm::QFM_ISA {
namespace {

// k is cut in steps of this depth, in words as all depths here: a step of a panel and of the block's rows of A stay in
// the second level of cache.
constexpr int64_t kDepth = 384, kCachedWords = 160 << 10;

template <class T>
bool empty(const GemmEpilogue<T>& e) {
  return !e.bias && !e.pre_gelu && !e.gelu && !e.times_gelu_grad_of && !e.residual;
}

using Tiles = TilesOf<kTileRows, kGemmBlockRows>;

// The block's rows of A at depths [depth, depth + step) as words, tile by tile: [step][height of the tile]
// of a transposed A, else [height][step].
template <class T>
void pack_a(const GemmShape& s, const T* a, int64_t row, const Tiles& tiles, int64_t depth, int64_t step,
            float* packed) {
  constexpr int64_t per_word = Words<T>::elements;
  if (s.trans_a) {
    constexpr int64_t few = 16;  // words deep at a time, all tiles of them: long runs, few pages
    for (int64_t p0 = 0; p0 < step; p0 += few)
      for (int64_t t = 0; t < tiles.count; ++t) {
        const int64_t begin = tiles.begin[t];
        const int height = tiles.height(t);
        float* to = packed + begin * step + p0 * height;
        for (int64_t p = p0; p < smaller(step, p0 + few); ++p, to += height) {
          const int64_t at = (depth + p) * per_word;
          const vf x = Words<T>::across(a + at * s.m + row + begin, s.m, s.k - at, height);
          // Masked stores are slow: rather write over the places of the next depths, which are filled later.
          if ((step - p) * height >= vf::width) store(to, x);
          else store(to, x, height);
        }
      }
  } else {
    for (int64_t i = 0; i < tiles.rows; ++i)
      for_vectors(step, [&](int64_t p, auto lanes) {
        const int64_t at = (depth + p) * per_word, rest = s.k - at, most = lanes_of(lanes) * per_word;
        store(packed + i * step + p, Words<T>::load(a + (row + i) * s.k + at, smaller(rest, most)), lanes);
      });
  }
}

// What the tiles of a block read of A at one step of the depth.
template <class T>
Strided tile_of_a(const GemmShape& s, const T* a, const float* packed, int64_t row, int64_t depth,
                  int64_t step, const Tiles& tiles, int64_t t) {
  const int64_t begin = tiles.begin[t];
  if (s.trans_a) return {packed + begin * step, 1, tiles.height(t)};
  if (!gemm_packs_a<T>(s))
    return {reinterpret_cast<const float*>(a + (row + begin) * s.k) + depth, words_of<T>(s.k), 1};
  return {packed + begin * step, step, 1};
}

// The epilogue is passed by value: a copy that stores to C cannot change stays in registers.
template <class T, class Out>
void finish_tile(const GemmEpilogue<T> e, Out* c, int64_t n, const float* tile, int64_t row, int height,
                 int64_t column) {
  const int64_t columns = smaller(kPanel, n - column);
  for (int64_t i = row; i < row + height; ++i, tile += kPanel)
    for_vectors(columns, [&](int64_t j, auto lanes) {
      finish(e, load(tile + j), c, i * n + column + j, column + j, lanes);
    });
}

// One tile of one panel at one step of the depth; after the last step, the epilogue.
template <class T, class Out>
void multiply_and_finish(const GemmBlock<T, Out>& g, const Tiles& tiles, int64_t t, int64_t panel,
                         int64_t depth, int64_t step, const float* packed_a) {
  const GemmShape& s = g.shape;
  const int64_t row = g.row + tiles.begin[t], column = (g.panel + panel) * kPanel;
  const int height = tiles.height(t);
  const Strided a = tile_of_a(s, g.a, packed_a, g.row, depth, step, tiles, t);
  const Columns b = {g.b + (g.panel + panel) * g.panel_step + depth * g.depth_step, g.depth_step};
  if constexpr (sizeof(Out) == sizeof(float))
    if (empty(g.epilogue) && column + kPanel <= s.n) {  // C itself holds the sums
      prefetch_tile(g.c, s.n, row, height, column, kPanel);
      return multiply_rows<typename Words<T>::Product>(height, s.n - column, step, a, b, g.c + row * s.n + column, s.n, depth > 0);
    }
  const bool last = depth + step == words_of<T>(s.k);
  if (last) {
    prefetch_tile(g.c, s.n, row, height, column, kPanel);
    prefetch_tile(g.epilogue.times_gelu_grad_of, s.n, row, height, column, kPanel);
    prefetch_tile(g.epilogue.residual, s.n, row, height, column, kPanel);
  }
  float* sums = g.workspace + (panel * g.rows + tiles.begin[t]) * kPanel;
  multiply_rows<typename Words<T>::Product>(height, s.n - column, step, a, b, sums, kPanel, depth > 0);
  if (last) finish_tile(g.epilogue, g.c, s.n, sums, row, height, column);
}

}  // namespace

template <class T>
int64_t gemm_panel_columns() {
  return kPanel;
}

template <class T>
bool gemm_packs_a(const GemmShape& s) {
  return s.trans_a || !Words<T>::in_place || s.k % Words<T>::elements != 0;
}

template <class T>
int64_t gemm_words(int64_t k) {
  return words_of<T>(k);
}

template <class T>
void gemm_pack_panel(const GemmShape& s, acc<T>* packed, const T* b, int64_t panel, int64_t depth,
                     int64_t step) {
  const int64_t column = panel * kPanel;
  const int columns = static_cast<int>(smaller(kPanel, s.n - column));
  packed += column * words_of<T>(s.k) + words_of<T>(depth) * kPanel;
  if (s.trans_b) pack_panel_transposed(packed, b + column * s.k + depth, s.k, step, columns);
  else pack_panel(packed, b + depth * s.n + column, s.n, step, columns);
}

// Sums of all the block's tiles, then the packed step of A.
template <class T>
int64_t gemm_workspace(const GemmShape& s, int64_t rows, int64_t panels) {
  return rows * panels * kPanel + (gemm_packs_a<T>(s) ? rows * smaller(kDepth, words_of<T>(s.k)) : 0);
}

template <class T, class Out>
void gemm_block(const GemmBlock<T, Out>& g) {
  const GemmShape& s = g.shape;
  const Tiles tiles(g.rows);
  float* const packed_a = g.workspace + g.rows * g.panels * kPanel;
  const int64_t words = words_of<T>(s.k);
  int64_t depth = 0;
  do {
    const int64_t step = smaller(kDepth, words - depth);
    if (gemm_packs_a<T>(s)) pack_a(s, g.a, g.row, tiles, depth, step, packed_a);
    // Where the panels' steps fit the cache, a tile passes over all of them: C is written along its rows.
    const bool along_rows = g.panels * kPanel * step <= kCachedWords;
    const int64_t outer = along_rows ? tiles.count : g.panels, inner = along_rows ? g.panels : tiles.count;
    for (int64_t i = 0; i < outer; ++i)
      for (int64_t j = 0; j < inner; ++j)
        multiply_and_finish(g, tiles, along_rows ? i : j, along_rows ? j : i, depth, step, packed_a);
    depth += step;
  } while (depth < words);
}

#define QFM_INSTANTIATE(T)                                                                       \
  template int64_t gemm_panel_columns<T>();                                                      \
  template int64_t gemm_words<T>(int64_t);                                                       \
  template bool gemm_packs_a<T>(const GemmShape&);                                               \
  template void gemm_pack_panel(const GemmShape&, acc<T>*, const T*, int64_t, int64_t, int64_t); \
  template int64_t gemm_workspace<T>(const GemmShape&, int64_t, int64_t);                        \
  template void gemm_block(const GemmBlock<T, T>&);
#ifndef __AVX512BF16__  // whose code serves bf16 alone
QFM_INSTANTIATE(float)
#endif
QFM_INSTANTIATE(bf16)
template void gemm_block(const GemmBlock<bf16, float>&);
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
