// Vectors of whole numbers, comparisons and what moves between lanes: what sampling needs beyond common/simd.h.
#pragma once
#include "kernels/common/simd.h"

namespace qfm::QFM_ISA {

#ifdef __AVX512F__

struct vi {
  __m512i v;
};
using vmask = __mmask16;
inline vi broadcast(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline vi load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store(int32_t* p, vi a) { _mm512_storeu_si512(p, a.v); }
inline void store(int32_t* p, vi a, int n) { _mm512_mask_storeu_epi32(p, first(n), a.v); }
inline vi operator+(vi a, vi b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline vi operator-(vi a, vi b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline vi operator*(vi a, vi b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
inline vmask less(vi a, vi b) { return _mm512_cmplt_epi32_mask(a.v, b.v); }
inline vmask less(vf a, vf b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
inline vmask no_nan(vf a) { return _mm512_cmp_ps_mask(a.v, a.v, _CMP_ORD_Q); }
inline vmask both(vmask a, vmask b) { return _kand_mask16(a, b); }
inline vi select(vmask m, vi a, vi b) { return {_mm512_mask_mov_epi32(b.v, m, a.v)}; }
inline vf select(vmask m, vf a, vf b) { return {_mm512_mask_mov_ps(b.v, m, a.v)}; }
inline vf floor(vf a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }
inline vi whole(vf a) { return {_mm512_cvttps_epi32(a.v)}; }
// p[at]; and of two vectors that follow each other.
inline vf pick(const float* p, vi at) { return {_mm512_i32gather_ps(at.v, p, 4)}; }
inline vf pick_of(vf low, vf high, vi at) { return {_mm512_permutex2var_ps(low.v, at.v, high.v)}; }
inline vi evens() { return {_mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)}; }

// Lane j of v[i] and lane i of v[j] change places: first within squares of 4, then squares of 4 among each other.
inline void transpose(vf (&v)[16]) {
  __m512 r[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(v[i].v, v[i + 1].v)),
                  b = _mm512_castps_pd(_mm512_unpackhi_ps(v[i].v, v[i + 1].v)),
                  c = _mm512_castps_pd(_mm512_unpacklo_ps(v[i + 2].v, v[i + 3].v)),
                  d = _mm512_castps_pd(_mm512_unpackhi_ps(v[i + 2].v, v[i + 3].v));
    r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
  for (int i = 0; i < 4; ++i) {
    const __m512 a = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88),
                 b = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd),
                 c = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88),
                 d = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    v[i].v = _mm512_shuffle_f32x4(a, c, 0x88);
    v[i + 4].v = _mm512_shuffle_f32x4(b, d, 0x88);
    v[i + 8].v = _mm512_shuffle_f32x4(a, c, 0xdd);
    v[i + 12].v = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
}

// Lane i = the sum of v[i]'s lanes: halves are added on the way of a transposition.
inline vf sums_of(const vf (&v)[16]) {
  __m512 r[4];
  for (int i = 0; i < 4; ++i) {
    const vf* p = v + 4 * i;
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(p[0].v, p[1].v), _mm512_unpackhi_ps(p[0].v, p[1].v)),
                 b = _mm512_add_ps(_mm512_unpacklo_ps(p[2].v, p[3].v), _mm512_unpackhi_ps(p[2].v, p[3].v));
    const __m512d c = _mm512_castps_pd(a), d = _mm512_castps_pd(b);
    r[i] =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(c, d)), _mm512_castpd_ps(_mm512_unpackhi_pd(c, d)));
  }
  const auto folded = [](__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  return {folded(folded(r[0], r[1]), folded(r[2], r[3]))};
}

#else

struct vi {
  __m256i v;
};
struct vmask {
  __m256i v;
};
inline vi broadcast(int32_t x) { return {_mm256_set1_epi32(x)}; }
inline vi load(const int32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
inline void store(int32_t* p, vi a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
inline void store(int32_t* p, vi a, int n) { _mm256_maskstore_epi32(p, first(n), a.v); }
inline vi operator+(vi a, vi b) { return {_mm256_add_epi32(a.v, b.v)}; }
inline vi operator-(vi a, vi b) { return {_mm256_sub_epi32(a.v, b.v)}; }
inline vi operator*(vi a, vi b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
inline vmask less(vi a, vi b) { return {_mm256_cmpgt_epi32(b.v, a.v)}; }
inline vmask less(vf a, vf b) { return {_mm256_castps_si256(_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))}; }
inline vmask no_nan(vf a) { return {_mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_ORD_Q))}; }
inline vmask both(vmask a, vmask b) { return {_mm256_and_si256(a.v, b.v)}; }
inline vi select(vmask m, vi a, vi b) { return {_mm256_blendv_epi8(b.v, a.v, m.v)}; }
inline vf select(vmask m, vf a, vf b) { return {_mm256_blendv_ps(b.v, a.v, _mm256_castsi256_ps(m.v))}; }
inline vf floor(vf a) { return {_mm256_floor_ps(a.v)}; }
inline vi whole(vf a) { return {_mm256_cvttps_epi32(a.v)}; }
// p[at]; and of two vectors that follow each other.
inline vf pick(const float* p, vi at) { return {_mm256_i32gather_ps(p, at.v, 4)}; }
inline vf pick_of(vf low, vf high, vi at) {
  const __m256 a = _mm256_permutevar8x32_ps(low.v, at.v), b = _mm256_permutevar8x32_ps(high.v, at.v);
  return {_mm256_blendv_ps(a, b, _mm256_castsi256_ps(_mm256_slli_epi32(at.v, 28)))};  // by the bit of 8
}
inline vi evens() { return {_mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14)}; }

// Lane j of v[i] and lane i of v[j] change places: first within squares of 4, then squares of 4 among each other.
inline void transpose(vf (&v)[8]) {
  __m256 r[8];
  for (int i = 0; i < 8; i += 4) {
    const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(v[i].v, v[i + 1].v)),
                  b = _mm256_castps_pd(_mm256_unpackhi_ps(v[i].v, v[i + 1].v)),
                  c = _mm256_castps_pd(_mm256_unpacklo_ps(v[i + 2].v, v[i + 3].v)),
                  d = _mm256_castps_pd(_mm256_unpackhi_ps(v[i + 2].v, v[i + 3].v));
    r[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    r[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    r[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    r[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
  }
  for (int i = 0; i < 4; ++i) {
    v[i].v = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    v[i + 4].v = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
}

// Lane i = the sum of v[i]'s lanes: halves are added on the way of a transposition.
inline vf sums_of(const vf (&v)[8]) {
  __m256 r[2];
  for (int i = 0; i < 2; ++i) {
    const vf* p = v + 4 * i;
    const __m256 a = _mm256_add_ps(_mm256_unpacklo_ps(p[0].v, p[1].v), _mm256_unpackhi_ps(p[0].v, p[1].v)),
                 b = _mm256_add_ps(_mm256_unpacklo_ps(p[2].v, p[3].v), _mm256_unpackhi_ps(p[2].v, p[3].v));
    const __m256d c = _mm256_castps_pd(a), d = _mm256_castps_pd(b);
    r[i] =
        _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(c, d)), _mm256_castpd_ps(_mm256_unpackhi_pd(c, d)));
  }
  return {_mm256_add_ps(_mm256_permute2f128_ps(r[0], r[1], 0x20), _mm256_permute2f128_ps(r[0], r[1], 0x31))};
}

#endif

inline void store(int32_t* p, vi a, Whole) { store(p, a); }
inline void store(int32_t* p, vi a, Tail tail) { store(p, a, tail.n); }

}  // namespace qfm::QFM_ISA
