#include "kernels/common/simd.h"
#include "kernels/pointwise/quantise.h"

namespace qfm::QFM_ISA {
namespace {

// Magnitudes compare as their bits do, and above all finite ones lie infinity and the NaNs.
constexpr uint32_t kMagnitude = 0x7fffffff, kInfinity = 0x7f800000;
#ifdef __AVX512F__
vf larger_magnitude(vf a, vf b) {
  const __m512i bits = _mm512_and_si512(_mm512_castps_si512(b.v), _mm512_set1_epi32(kMagnitude));
  return {_mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a.v), bits))};
}
uint32_t largest_bits(vf a) { return static_cast<uint32_t>(_mm512_reduce_max_epi32(_mm512_castps_si512(a.v))); }
void store_bytes(uint8_t* q, vf a, int n) {
  const __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(a.v), _mm512_set1_epi32(128));
  _mm512_mask_cvtepi32_storeu_epi8(q, first(n), whole);
}
void store_bytes(uint8_t* q, vf a) {
  const __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(a.v), _mm512_set1_epi32(128));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm512_cvtepi32_epi8(whole));
}
#else
vf larger_magnitude(vf a, vf b) {
  const __m256i bits = _mm256_and_si256(_mm256_castps_si256(b.v), _mm256_set1_epi32(kMagnitude));
  return {_mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a.v), bits))};
}
uint32_t largest_bits(vf a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1))));
}
void store_bytes(uint8_t* q, vf a, int n = vf::width) {
  const __m256i whole = _mm256_add_epi32(_mm256_cvtps_epi32(a.v), _mm256_set1_epi32(128));
  const __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  const __m128i bytes = _mm_packus_epi16(pairs, pairs);
  std::memcpy(q, &bytes, static_cast<size_t>(n));
}
#endif
void store_bytes(uint8_t* q, vf a, Whole) { store_bytes(q, a); }
void store_bytes(uint8_t* q, vf a, Tail tail) { store_bytes(q, a, tail.n); }

}  // namespace

template <class T>
void quantise_tokens(uint8_t* q, const T* x, int64_t rows, int64_t cols) {
  const int64_t words = int8_words_bytes(cols);
  for (int64_t i = 0; i < rows; ++i, x += cols, q += int8_row_bytes(cols)) {
    vf magnitude = zero();
    for_vectors(cols, [&](int64_t j, auto part) { magnitude = larger_magnitude(magnitude, load(x + j, part)); });
    const uint32_t bits = largest_bits(magnitude);
    float top, scale = 0;
    std::memcpy(&top, &bits, sizeof top);
    if (bits < kInfinity && top >= kLeastQuantised) {
      scale = top / 127.0f;
      const vf inverse = broadcast(127.0f / top);
      std::memset(q + words - 4, 128, 4);
      for_vectors(cols, [&](int64_t j, auto part) { store_bytes(q + j, load(x + j, part) * inverse, part); });
    } else {
      std::memset(q, 128, static_cast<size_t>(words));
      if (bits >= kInfinity) scale = __builtin_nanf("");
    }
    std::memcpy(q + words, &scale, sizeof scale);
  }
}

template void quantise_tokens(uint8_t*, const float*, int64_t, int64_t);

}  // namespace qfm::QFM_ISA
