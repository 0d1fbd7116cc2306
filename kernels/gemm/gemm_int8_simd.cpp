#include "kernels/gemm/gemm_finish_simd.h"
#include "kernels/gemm/gemm_int8_block.h"
#include "kernels/gemm/int8_product.h"

namespace qfm::QFM_ISA {
namespace {

using Tiles = TilesOf<Int8Product::kRows, kInt8BlockRows>;

// Column by column, so that what belongs to a column is loaded once.
template <bool kGelu, bool kResidual>
void finish_tile(const GemmInt8Block& g, const float* sums, int64_t row, int height, int64_t column,
                 const float* excess) {
  const GemmEpilogue<float> e = g.epilogue;
  const int64_t n = g.n, row_floats = int8_row_bytes(g.k) / 4;
  const float* const row_scales = reinterpret_cast<const float*>(g.a) + (row + 1) * row_floats - 1;
  for_vectors(smaller(kPanel, n - column), [&](int64_t j, auto lanes) {
    const vf too_much = load(excess + j), scale = load(excess + kInt8Panel + j);
    const vf bias = e.bias ? load(e.bias + column + j, lanes) : zero();
    int64_t at = row * n + column + j;
    for (int i = 0; i < height; ++i, at += n) {
      vf v = fma(whole(load(sums + i * kPanel + j), too_much) * scale, broadcast(row_scales[i * row_floats]), bias);
      if (kGelu) v = gelu(v);
      if (kResidual) v = v + load(e.residual + at, lanes);
      store(g.c + at, v, lanes);
    }
  });
}
using FinishTile = void(const GemmInt8Block&, const float*, int64_t, int, int64_t, const float*);
FinishTile* finish_for(const GemmEpilogue<float>& e) {
  if (e.gelu) return e.residual ? &finish_tile<true, true> : &finish_tile<true, false>;
  return e.residual ? &finish_tile<false, true> : &finish_tile<false, false>;
}

void multiply_and_finish(const GemmInt8Block& g, const Tiles& tiles, int64_t t, int64_t column) {
  const int64_t row = tiles.begin[t], row_floats = int8_row_bytes(g.k) / 4, words = (g.k + 3) / 4;
  const int height = tiles.height(t);
  const float* b = g.b + column / kInt8Panel * int8_panel_words(g.k) + column % kInt8Panel;
  const Strided a = {reinterpret_cast<const float*>(g.a) + row * row_floats, row_floats, 1};
  prefetch_tile(g.c, g.n, row, height, column, kPanel);
  prefetch_tile(g.epilogue.residual, g.n, row, height, column, kPanel);
  alignas(64) float sums[Int8Product::kRows * kPanel];
  multiply_int8_rows(height, g.n - column, words, a, {b, kInt8Panel}, sums, kPanel);
  finish_for(g.epilogue)(g, sums, row, height, column, b + words * kInt8Panel);
}

}  // namespace

void gemm_int8_block(const GemmInt8Block& g) {
  const Tiles tiles(g.rows);
  for (int64_t t = 0; t < tiles.count; ++t)
    for (int64_t column = 0; column < g.n; column += kPanel) multiply_and_finish(g, tiles, t, column);
}

}  // namespace qfm::QFM_ISA
