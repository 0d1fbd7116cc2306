// Rows of floats as bytes, for files compiled per instruction set.
#pragma once
#include "kernels/common/simd.h"

namespace qfm::QFM_ISA {

// Magnitudes compare as their bits do, and above all finite ones lie infinity and the NaNs.
inline constexpr uint32_t kMagnitude = 0x7fffffff, kInfinity = 0x7f800000;

// larger_magnitude: of a, which is one, and |b|. store_bytes: whole numbers plus kAdded, 0 .. 255.
#ifdef __AVX512F__
inline vf larger_magnitude(vf a, vf b) {
  const __m512i bits = _mm512_and_si512(_mm512_castps_si512(b.v), _mm512_set1_epi32(kMagnitude));
  return {_mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a.v), bits))};
}
inline uint32_t largest_bits(vf a) { return static_cast<uint32_t>(_mm512_reduce_max_epi32(_mm512_castps_si512(a.v))); }
template <int kAdded>
void store_bytes(uint8_t* q, vf a, Whole) {
  const __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(a.v), _mm512_set1_epi32(kAdded));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm512_cvtepi32_epi8(whole));
}
template <int kAdded>
void store_bytes(uint8_t* q, vf a, Tail tail) {
  const __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(a.v), _mm512_set1_epi32(kAdded));
  _mm512_mask_cvtepi32_storeu_epi8(q, first(tail.n), whole);
}
#else
inline vf larger_magnitude(vf a, vf b) {
  const __m256i bits = _mm256_and_si256(_mm256_castps_si256(b.v), _mm256_set1_epi32(kMagnitude));
  return {_mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a.v), bits))};
}
inline uint32_t largest_bits(vf a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1))));
}
template <int kAdded, class Lanes>
void store_bytes(uint8_t* q, vf a, Lanes lanes) {
  const __m256i whole = _mm256_add_epi32(_mm256_cvtps_epi32(a.v), _mm256_set1_epi32(kAdded));
  const __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  const __m128i bytes = _mm_packus_epi16(pairs, pairs);
  std::memcpy(q, &bytes, static_cast<size_t>(lanes_of(lanes)));
}
#endif

// One row of pointwise/quantise.h, without its scale, which is returned. words: its bytes, a multiple of four.
template <class T>
float quantise_row(uint8_t* q, const T* x, int64_t cols, int64_t words, float least) {
  vf magnitude = zero();
  for_vectors(cols, [&](int64_t j, auto part) { magnitude = larger_magnitude(magnitude, load(x + j, part)); });
  const uint32_t bits = largest_bits(magnitude);
  float top;
  std::memcpy(&top, &bits, sizeof top);
  if (bits >= kInfinity || top < least) {
    std::memset(q, 128, static_cast<size_t>(words));
    return bits >= kInfinity ? __builtin_nanf("") : 0;
  }
  const vf inverse = broadcast(127.0f / top);
  std::memset(q + words - 4, 128, 4);
  for_vectors(cols, [&](int64_t j, auto part) { store_bytes<128>(q + j, load(x + j, part) * inverse, part); });
  return top / 127.0f;
}

}  // namespace qfm::QFM_ISA
