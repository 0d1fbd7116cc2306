#include "kernels/gemm_block.h"
#include "kernels/gemm_tile.h"

namespace qfm::QFM_ISA {
namespace {

// A chunk of a panel stays in the first two levels of cache while the tiles of a block pass over it.
constexpr int64_t kDepth = 1024;

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <class T>
bool packs_a(const GemmShape& s) {
  return s.trans_a || sizeof(T) != sizeof(float);
}

// Tile t of the block: an even cut of its rows.
struct Tiles {
  int64_t rows, count;
  explicit Tiles(int64_t rows) : rows(rows), count((rows + kTileRows - 1) / kTileRows) {}
  int64_t begin(int64_t t) const { return rows * t / count; }
  int height(int64_t t) const { return static_cast<int>(begin(t + 1) - begin(t)); }
};

// Rows [row, row + tiles.rows) of A as floats: a transposed A tile by tile, [k][height of the tile], else row
// by row. Whole vectors are written, each over the spill of the one before.
template <class T>
void pack_a(const GemmShape& s, float* packed, const T* a, int64_t row, const Tiles& tiles) {
  if (s.trans_a) {
    for (int64_t p = 0; p < s.k; ++p)
      for (int64_t t = 0; t < tiles.count; ++t) {
        const int64_t begin = tiles.begin(t);
        const int height = tiles.height(t);
        store(packed + begin * s.k + p * height, load(a + p * s.m + row + begin, height), height);
      }
  } else {
    for (int64_t i = 0; i < tiles.rows; ++i)
      for (int64_t p = 0; p < s.k; p += vf::width)
        store(packed + i * s.k + p,
              load(a + (row + i) * s.k + p, static_cast<int>(smaller(vf::width, s.k - p))));
  }
}

template <class T>
Strided tile_of_a(const GemmShape& s, const float* packed, const T* a, int64_t row, const Tiles& tiles,
                  int64_t t) {
  const int64_t begin = tiles.begin(t);
  if (s.trans_a) return {packed + begin * s.k, 1, tiles.height(t)};
  if constexpr (sizeof(T) == sizeof(float)) return {a + (row + begin) * s.k, s.k, 1};
  return {packed + begin * s.k, s.k, 1};
}

// The epilogue on a vector of C that begins at element `at`, column `column`. Lanes = Whole or Tail.
template <class T, class Out, class Lanes>
inline void finish(const GemmEpilogue<T>& e, vf v, Out* c, int64_t at, int64_t column, Lanes lanes) {
  if (e.bias) v = v + load(e.bias + column, lanes);
  if (e.pre_gelu) store(e.pre_gelu + at, v, lanes);
  if (e.gelu) v = gelu(v);
  if (e.times_gelu_grad_of) v = v * gelu_grad(load(e.times_gelu_grad_of + at, lanes));
  if (e.scale) v = v * load(e.scale + column, lanes);
  if (e.residual) v = v + load(e.residual + at, lanes);
  store(c + at, v, lanes);
}

template <class T, class Out>
void finish_tile(const GemmBlock<T, Out>& g, const float* tile, int64_t row, int height, int64_t column) {
  const int64_t n = g.shape.n, columns = smaller(kPanel, n - column);
  for (int64_t i = row; i < row + height; ++i, tile += kPanel)
    for_vectors(columns, [&](int64_t j, auto lanes) {
      finish(g.epilogue, load(tile + j), g.c, i * n + column + j, column + j, lanes);
    });
}

template <class T>
bool empty(const GemmEpilogue<T>& e) {
  return !e.bias && !e.pre_gelu && !e.gelu && !e.times_gelu_grad_of && !e.scale && !e.residual;
}

}  // namespace

template <class T>
int64_t gemm_panel_columns() {
  return kPanel;
}

template <class T>
void gemm_pack_panel(const GemmShape& s, acc<T>* packed, const T* b, int64_t panel) {
  const int64_t column = panel * kPanel;
  const int columns = static_cast<int>(smaller(kPanel, s.n - column));
  if (s.trans_b) pack_panel_transposed(packed + column * s.k, b + column * s.k, s.k, s.k, columns);
  else pack_panel(packed + column * s.k, b + column, s.n, s.k, columns);
}

template <class T>
int64_t gemm_workspace(const GemmShape& s, int64_t rows) {
  return rows * kPanel + (packs_a<T>(s) ? rows * s.k + vf::width : 0);
}

template <class T, class Out>
void gemm_block(const GemmBlock<T, Out>& g) {
  const GemmShape& s = g.shape;
  const Tiles tiles(g.rows);
  float* const raw = g.workspace;
  float* const packed_a = raw + g.rows * kPanel;
  if (packs_a<T>(s)) pack_a(s, packed_a, g.a, g.row, tiles);
  const bool plain = sizeof(Out) == sizeof(float) && empty(g.epilogue);
  for (int64_t panel = g.panel; panel < g.panel + g.panels; ++panel) {
    const int64_t column = panel * kPanel;
    const bool direct = plain && column + kPanel <= s.n;  // C itself holds the sums
    int64_t depth = 0;
    do {
      const int64_t step = smaller(kDepth, s.k - depth);
      const bool last = depth + step == s.k;
      for (int64_t t = 0; t < tiles.count; ++t) {
        const int64_t row = g.row + tiles.begin(t);
        Strided a = tile_of_a(s, packed_a, g.a, g.row, tiles, t);
        a.data += depth * a.step;
        float* tile = raw + tiles.begin(t) * kPanel;
        int64_t ld = kPanel;
        if constexpr (sizeof(Out) == sizeof(float))
          if (direct) tile = g.c + row * s.n + column, ld = s.n;
        multiply_rows(tiles.height(t), step, a, g.packed + column * s.k + depth * kPanel, tile, ld,
                      depth > 0);
        if (last && !direct) finish_tile(g, tile, row, tiles.height(t), column);
      }
      depth += step;
    } while (depth < s.k);
  }
}

#define QFM_INSTANTIATE(T)                                                     \
  template int64_t gemm_panel_columns<T>();                                    \
  template void gemm_pack_panel(const GemmShape&, acc<T>*, const T*, int64_t); \
  template int64_t gemm_workspace<T>(const GemmShape&, int64_t);               \
  template void gemm_block(const GemmBlock<T, T>&);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
template void gemm_block(const GemmBlock<bf16, float>&);
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
