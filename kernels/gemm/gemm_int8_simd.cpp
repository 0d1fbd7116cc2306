#include "kernels/gemm/gemm_finish_simd.h"
#include "kernels/gemm/gemm_int8_block.h"
#include "kernels/gemm/gemm_tile.h"

namespace qfm::QFM_ISA {
namespace {

// sum + (four bytes of A) (four numbers of B), sums being integers. With kOffset, A's bytes are taken as they are, 128
// more than the numbers that they mean.
#if defined(__AVX512VNNI__)
struct Int8Product {
  static constexpr bool kOffset = true;
  static constexpr int kRows = 8;
  static vf add(vf sum, vf a, vf b) {
    return {_mm512_castsi512_ps(
        _mm512_dpbusd_epi32(_mm512_castps_si512(sum.v), _mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
  }
};
#elif defined(__AVXVNNI__)
struct Int8Product {
  static constexpr bool kOffset = true;
  static constexpr int kRows = 6;
  static vf add(vf sum, vf a, vf b) {
    return {_mm256_castsi256_ps(
        _mm256_dpbusd_avx_epi32(_mm256_castps_si256(sum.v), _mm256_castps_si256(a.v), _mm256_castps_si256(b.v)))};
  }
};
#else
// vpmaddubsw adds pairs of products in 16 bits and saturates: 255 x 127 twice is too much for it, |a| times b with a's
// sign, at most 127 x 127 twice, is not.
struct Int8Product {
  static constexpr bool kOffset = false;
  static constexpr int kRows = 4;
  static vf add(vf sum, vf a, vf b) {
    const __m256i x = _mm256_xor_si256(_mm256_castps_si256(a.v), _mm256_set1_epi8(-128));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(_mm256_castps_si256(b.v), x));
    const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum.v), fours))};
  }
};
#endif

// Sums as floats, without what they have too much.
inline vf value(vf sum, vf excess) {
#ifdef __AVX512F__
  const __m512i s = _mm512_castps_si512(sum.v), e = _mm512_castps_si512(excess.v);
  return {_mm512_cvtepi32_ps(Int8Product::kOffset ? _mm512_sub_epi32(s, e) : s)};
#else
  const __m256i s = _mm256_castps_si256(sum.v), e = _mm256_castps_si256(excess.v);
  return {_mm256_cvtepi32_ps(Int8Product::kOffset ? _mm256_sub_epi32(s, e) : s)};
#endif
}

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
      vf v = fma(value(load(sums + i * kPanel + j), too_much) * scale, broadcast(row_scales[i * row_floats]), bias);
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
  if (g.n - column > vf::width)
    multiply_rows_of<Int8Product, 2, Int8Product::kRows>(height, words, a, {b, kInt8Panel}, sums, kPanel, false);
  else
    multiply_rows_of<Int8Product, 1, Int8Product::kRows>(height, words, a, {b, kInt8Panel}, sums, kPanel, false);
  finish_for(g.epilogue)(g, sums, row, height, column, b + words * kInt8Panel);
}

}  // namespace

void gemm_int8_block(const GemmInt8Block& g) {
  const Tiles tiles(g.rows);
  for (int64_t t = 0; t < tiles.count; ++t)
    for (int64_t column = 0; column < g.n; column += kPanel) multiply_and_finish(g, tiles, t, column);
}

}  // namespace qfm::QFM_ISA
