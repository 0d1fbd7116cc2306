// Products of four 8-bit numbers at a time, for files compiled per instruction set: words of four bytes (gemm_words.h),
// sums that are 32-bit integers. Registers of all of them count as vf.
#pragma once
#include "kernels/gemm/gemm_tile.h"

namespace qfm::QFM_ISA {

// sum + (four bytes of A) (four numbers of B). With kOffset, A's bytes are taken as they are, 0 .. 255; else they are
// numbers to which 128 was added.
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
struct Int8Product {
  static constexpr bool kOffset = true;
  static constexpr int kRows = kTileRows;
  static vf add(vf sum, vf a, vf b) {
#ifdef __AVX512VNNI__
    return {_mm512_castsi512_ps(
        _mm512_dpbusd_epi32(_mm512_castps_si512(sum.v), _mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
#else
    return {_mm256_castsi256_ps(
        _mm256_dpbusd_avx_epi32(_mm256_castps_si256(sum.v), _mm256_castps_si256(a.v), _mm256_castps_si256(b.v)))};
#endif
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

// Sums as floats, without the 128 times column sum that they have too much where A's bytes are taken as they are.
#ifdef __AVX512F__
inline vf whole(vf sum) { return {_mm512_cvtepi32_ps(_mm512_castps_si512(sum.v))}; }
inline vf whole(vf sum, vf excess) {
  if (!Int8Product::kOffset) return whole(sum);
  return {_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_castps_si512(sum.v), _mm512_castps_si512(excess.v)))};
}
#else
inline vf whole(vf sum) { return {_mm256_cvtepi32_ps(_mm256_castps_si256(sum.v))}; }
inline vf whole(vf sum, vf excess) {
  if (!Int8Product::kOffset) return whole(sum);
  return {_mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_castps_si256(sum.v), _mm256_castps_si256(excess.v)))};
}
#endif

// c (rows, columns <= kPanel) = A B, as integers; k counts words.
inline void multiply_int8_rows(int rows, int64_t columns, int64_t k, Strided a, Columns b, float* c, int64_t ldc) {
  if (columns > vf::width) multiply_rows_of<Int8Product, 2, Int8Product::kRows>(rows, k, a, b, c, ldc, false);
  else multiply_rows_of<Int8Product, 1, Int8Product::kRows>(rows, k, a, b, c, ldc, false);
}

}  // namespace qfm::QFM_ISA
