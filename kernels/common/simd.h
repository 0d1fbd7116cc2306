// A vector of floats with one interface for AVX2 and AVX-512, for the X_simd.cpp files, which are compiled
// once for each (see CMakeLists.txt). Elements are numbered 0 .. width-1; `n` is a number of leading
// elements, 0 .. width.
//
// Everything here lives in the namespace of its instruction set: code compiled with AVX flags must never be
// merged by the linker with a copy that other processors run. For the same reason these files include small
// headers only.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "engine/base/dtype.h"

#if !defined(QFM_ISA) || !defined(__AVX2__) || !defined(__FMA__)
#error "simd.h is for files compiled per instruction set"
#endif

namespace qfm::QFM_ISA {

#ifdef __AVX512F__

struct vf {
  static constexpr int width = 16;
  __m512 v;
};
inline vf broadcast(float x) { return {_mm512_set1_ps(x)}; }
inline __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
inline vf load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline vf load(const float* p, int n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
inline void store(float* p, vf a) { _mm512_storeu_ps(p, a.v); }
inline void store(float* p, vf a, int n) { _mm512_mask_storeu_ps(p, first(n), a.v); }
inline void stream_aligned(float* p, vf a) { _mm512_stream_ps(p, a.v); }
inline vf operator+(vf a, vf b) { return {_mm512_add_ps(a.v, b.v)}; }
inline vf operator-(vf a, vf b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline vf operator*(vf a, vf b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline vf operator/(vf a, vf b) { return {_mm512_div_ps(a.v, b.v)}; }
inline vf fma(vf a, vf b, vf c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline vf fnma(vf a, vf b, vf c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
inline vf max(vf a, vf b) { return {_mm512_max_ps(a.v, b.v)}; }
inline vf min(vf a, vf b) { return {_mm512_min_ps(a.v, b.v)}; }
inline vf sqrt(vf a) { return {_mm512_sqrt_ps(a.v)}; }
inline vf round(vf a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// a * 2^n for integral n.
inline vf scale_by_power(vf a, vf n) { return {_mm512_scalef_ps(a.v, n.v)}; }
// Elements below n from a, the others from b.
inline vf select_first(int n, vf a, vf b) { return {_mm512_mask_mov_ps(b.v, first(n), a.v)}; }
// a where x > 0, else b: also where x is NaN.
inline vf where_positive(vf x, vf a, vf b) {
  return {_mm512_mask_mov_ps(b.v, _mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_GT_OQ), a.v)};
}
// a where x is NaN, else b.
inline vf where_nan(vf x, vf a, vf b) { return {_mm512_mask_mov_ps(b.v, _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), a.v)}; }
// x = m 2^e with m in [sqrt(1/2), sqrt 2), for x > 0.
inline vf split_power(vf x, vf* e) {
  const __m512i bits = _mm512_sub_epi32(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x3f3504f3));
  const __m512i power = _mm512_srai_epi32(bits, 23);
  *e = {_mm512_cvtepi32_ps(power)};
  return {_mm512_castsi512_ps(_mm512_sub_epi32(_mm512_castps_si512(x.v), _mm512_slli_epi32(power, 23)))};
}
// a where v > most, or v is NaN and most is not; else b.
inline vf where_beats(vf v, vf most, vf a, vf b) {
  const __mmask16 beats = _mm512_cmp_ps_mask(v.v, most.v, _CMP_NLE_UQ) & _mm512_cmp_ps_mask(most.v, most.v, _CMP_ORD_Q);
  return {_mm512_mask_mov_ps(b.v, beats, a.v)};
}
inline vf lane_numbers() { return {_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)}; }
// Elements 0, 2, 4, ... of a, then 1, 3, 5, ... of b.
inline vf even_and_odd(vf a, vf b) {
  const __m512i from = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
  return {_mm512_permutex2var_ps(a.v, from, b.v)};
}
// Whole numbers.
inline void store_whole(int32_t* p, vf a, int n) { _mm512_mask_storeu_epi32(p, first(n), _mm512_cvtps_epi32(a.v)); }

inline vf from_bf16(__m256i h) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
}
#ifdef __AVX512BF16__
#if defined(__clang__) && __clang_major__ < 17  // which crashes on the intrinsics: it is given the instructions
inline __m256i to_bf16(vf a) {
  __m256i h;
  asm("vcvtneps2bf16 %1, %0" : "=v"(h) : "v"(a.v));
  return h;
}
inline vf add_bf16_products(vf sum, vf a, vf b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
}
#else
inline __m256i to_bf16(vf a) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a.v)); }
inline vf add_bf16_products(vf sum, vf a, vf b) {  // both hold pairs of bf16: sum + a0 b0 + a1 b1
  return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
}
#endif
#else
inline __m256i to_bf16(vf a) {
  const __m512i u = _mm512_castps_si512(a.v), one = _mm512_set1_epi32(1);
  const __m512i high = _mm512_srli_epi32(u, 16);
  const __m512i bias = _mm512_add_epi32(_mm512_set1_epi32(0x7fff), _mm512_and_si512(high, one));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(u, bias), 16);
  const __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(
      _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q), quiet));
}
#endif
inline vf load(const bf16* p) { return from_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline vf load(const bf16* p, int n) { return from_bf16(_mm256_maskz_loadu_epi16(first(n), p)); }
inline void store(bf16* p, vf a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16(a)); }
inline void store(bf16* p, vf a, int n) { _mm256_mask_storeu_epi16(p, first(n), to_bf16(a)); }

inline __m256 lower_half(vf a) { return _mm512_castps512_ps256(a.v); }
inline __m256 upper_half(vf a) { return _mm512_extractf32x8_ps(a.v, 1); }
inline float reduce_add(__m256 a);
inline float reduce_max(__m256 a);
inline float reduce_add(vf a) { return reduce_add(_mm256_add_ps(lower_half(a), upper_half(a))); }
inline float reduce_max(vf a) { return reduce_max(_mm256_max_ps(lower_half(a), upper_half(a))); }

#else

struct vf {
  static constexpr int width = 8;
  __m256 v;
};
inline vf broadcast(float x) { return {_mm256_set1_ps(x)}; }
inline __m256i first(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline vf load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline vf load(const float* p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
inline void store(float* p, vf a) { _mm256_storeu_ps(p, a.v); }
inline void store(float* p, vf a, int n) { _mm256_maskstore_ps(p, first(n), a.v); }
inline void stream_aligned(float* p, vf a) { _mm256_stream_ps(p, a.v); }
inline vf operator+(vf a, vf b) { return {_mm256_add_ps(a.v, b.v)}; }
inline vf operator-(vf a, vf b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline vf operator*(vf a, vf b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline vf operator/(vf a, vf b) { return {_mm256_div_ps(a.v, b.v)}; }
inline vf fma(vf a, vf b, vf c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline vf fnma(vf a, vf b, vf c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
inline vf max(vf a, vf b) { return {_mm256_max_ps(a.v, b.v)}; }
inline vf min(vf a, vf b) { return {_mm256_min_ps(a.v, b.v)}; }
inline vf sqrt(vf a) { return {_mm256_sqrt_ps(a.v)}; }
inline vf round(vf a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// a * 2^n for integral n in -252 .. 254, in two halves so that neither leaves the normal range.
inline vf scale_by_power(vf a, vf n) {
  const __m256i whole = _mm256_cvtps_epi32(n.v), half = _mm256_srai_epi32(whole, 1),
                bias = _mm256_set1_epi32(127);
  const __m256i p = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i q = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
  return {_mm256_mul_ps(_mm256_mul_ps(a.v, _mm256_castsi256_ps(p)), _mm256_castsi256_ps(q))};
}
// Elements below n from a, the others from b.
inline vf select_first(int n, vf a, vf b) {
  return {_mm256_blendv_ps(b.v, a.v, _mm256_castsi256_ps(first(n)))};
}
// a where x > 0, else b: also where x is NaN.
inline vf where_positive(vf x, vf a, vf b) {
  return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_GT_OQ))};
}
// a where x is NaN, else b.
inline vf where_nan(vf x, vf a, vf b) { return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q))}; }
// x = m 2^e with m in [sqrt(1/2), sqrt 2), for x > 0.
inline vf split_power(vf x, vf* e) {
  const __m256i bits = _mm256_sub_epi32(_mm256_castps_si256(x.v), _mm256_set1_epi32(0x3f3504f3));
  const __m256i power = _mm256_srai_epi32(bits, 23);
  *e = {_mm256_cvtepi32_ps(power)};
  return {_mm256_castsi256_ps(_mm256_sub_epi32(_mm256_castps_si256(x.v), _mm256_slli_epi32(power, 23)))};
}
// a where v > most, or v is NaN and most is not; else b.
inline vf where_beats(vf v, vf most, vf a, vf b) {
  const __m256 beats = _mm256_and_ps(_mm256_cmp_ps(v.v, most.v, _CMP_NLE_UQ), _mm256_cmp_ps(most.v, most.v, _CMP_ORD_Q));
  return {_mm256_blendv_ps(b.v, a.v, beats)};
}
inline vf lane_numbers() { return {_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7)}; }
// Elements 0, 2, 4, ... of a, then 1, 3, 5, ... of b.
inline vf even_and_odd(vf a, vf b) {
  const __m256 pairs = _mm256_shuffle_ps(a.v, b.v, _MM_SHUFFLE(3, 1, 2, 0));  // a0 a2 b1 b3 a4 a6 b5 b7
  return {_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(pairs), _MM_SHUFFLE(3, 1, 2, 0)))};
}
// Whole numbers.
inline void store_whole(int32_t* p, vf a, int n) { _mm256_maskstore_epi32(p, first(n), _mm256_cvtps_epi32(a.v)); }

inline vf from_bf16(__m128i h) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16))};
}
inline __m128i to_bf16(vf a) {
  const __m256i u = _mm256_castps_si256(a.v), one = _mm256_set1_epi32(1);
  const __m256i high = _mm256_srli_epi32(u, 16);
  const __m256i bias = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), _mm256_and_si256(high, one));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(u, bias), 16);
  const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  const __m256i x = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}
inline vf load(const bf16* p) { return from_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline vf load(const bf16* p, int n) {
  __m128i h = _mm_setzero_si128();
  std::memcpy(&h, p, static_cast<size_t>(n) * sizeof(bf16));
  return from_bf16(h);
}
inline void store(bf16* p, vf a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_bf16(a)); }
inline void store(bf16* p, vf a, int n) {
  const __m128i h = to_bf16(a);
  std::memcpy(p, &h, static_cast<size_t>(n) * sizeof(bf16));
}

inline float reduce_add(__m256 a);
inline float reduce_max(__m256 a);
inline float reduce_add(vf a) { return reduce_add(a.v); }
inline float reduce_max(vf a) { return reduce_max(a.v); }

#endif

// The order of the sum is fixed: halves, quarters, pairs.
inline float reduce_add(__m256 a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float reduce_max(__m256 a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

inline vf zero() { return broadcast(0.0f); }
inline vf number(vf, double value) { return broadcast(static_cast<float>(value)); }

// exp within 2 units in the last place; 0 below -104, infinity above 88.8, NaN for NaN.
// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2; the polynomial is a minimax fit of relative
// error 3e-9.
inline vf exp(vf x) {
  // max and min return their second operand when the first is NaN: x stays last, so that NaN passes.
  x = min(broadcast(89.5f), max(broadcast(-105.0f), x));
  const vf n = round(x * broadcast(1.44269504f));
  vf r = fnma(n, broadcast(0.693145752f), x);  // ln 2 in two parts: the first times n is exact
  r = fnma(n, broadcast(1.42860677e-6f), r);
  vf p = broadcast(1.38145394e-3f);
  p = fma(p, r, broadcast(8.36874545e-3f));
  p = fma(p, r, broadcast(4.16683890e-2f));
  p = fma(p, r, broadcast(1.66665211e-1f));
  p = fma(p, r, broadcast(4.99999940e-1f));
  p = fma(p, r, broadcast(1.0f));
  p = fma(p, r, broadcast(1.0f));
  return scale_by_power(p, n);
}

inline constexpr float kGeluTail = 5.5f;  // Phi(-5.5) = 2e-8: beyond it Phi is 0 or 1

// Phi(x) - 1/2 = x * factor with the x that is returned: x P(x^2) / Q(x^2), a minimax fit (error 7e-9 before rounding) for |x| <= kGeluTail, constant beyond.
inline vf half_erf(vf x, vf* factor) {
  x = min(broadcast(kGeluTail), max(broadcast(-kGeluTail), x));
  const vf t = x * x;
  vf p = broadcast(2.27494035e-8f), q = broadcast(1.19750572e-6f);
  p = fma(p, t, broadcast(6.35212668e-6f));
  q = fma(q, t, broadcast(7.36476942e-5f));
  p = fma(p, t, broadcast(1.68826184e-4f));
  q = fma(q, t, broadcast(1.88444770e-3f));
  p = fma(p, t, broadcast(4.67726381e-3f));
  q = fma(q, t, broadcast(2.86458978e-2f));
  p = fma(p, t, broadcast(3.38526902e-2f));
  q = fma(q, t, broadcast(2.51522029e-1f));
  p = fma(p, t, broadcast(3.98942235e-1f));
  q = fma(q, t, broadcast(1.0f));
  *factor = p / q;
  return x;
}

// The normal distribution function, absolute error about 1.5e-7.
inline vf normal_cdf(vf x) {
  vf factor;
  x = half_erf(x, &factor);
  return fma(x, factor, broadcast(0.5f));
}

// x Phi(x), the erf form of GELU. Left of the tail x is held, so that it does not multiply Phi's rounding.
inline vf gelu(vf x) { return max(broadcast(-kGeluTail), x) * normal_cdf(x); }

// Phi(x) + x phi(x), with phi(x) = exp(-x^2 / 2) / sqrt(2 pi).
inline vf gelu_grad(vf x) {
  const vf held =
      min(broadcast(20.0f), max(broadcast(-20.0f), x));  // phi(20) = 0; infinity times 0 would be NaN
  const vf density = exp(held * held * broadcast(-0.5f)) * broadcast(0.398942280f);
  return fma(held, density, normal_cdf(x));
}

// ---- what kernels/pointwise/functions.h needs beside the above; number.h has it for single numbers ----

// The larger one, or a NaN.
inline vf max_or_nan(vf a, vf b) { return where_nan(a, a, max(a, b)); }
inline vf abs(vf x) { return max(x, zero() - x); }

// erf(x) = 2 Phi(x sqrt 2) - 1, absolute error about 2e-7 and a few units in the last place near 0.
inline vf erf(vf x) {
  vf factor;
  const vf held = half_erf(x * broadcast(1.41421356f), &factor);
  return (held + held) * factor;
}

// ln(x) within a few units in the last place: x = m 2^e, ln m by a polynomial around 1 (Cephes, logf). -infinity at 0, NaN
// below; numbers under float's normal range count as 0.
inline vf log(vf x) {
  vf e;
  const vf f = split_power(x, &e) - broadcast(1.0f), z = f * f;
  vf p = broadcast(7.0376836292e-2f);
  p = fma(p, f, broadcast(-1.1514610310e-1f));
  p = fma(p, f, broadcast(1.1676998740e-1f));
  p = fma(p, f, broadcast(-1.2420140846e-1f));
  p = fma(p, f, broadcast(1.4249322787e-1f));
  p = fma(p, f, broadcast(-1.6668057665e-1f));
  p = fma(p, f, broadcast(2.0000714765e-1f));
  p = fma(p, f, broadcast(-2.4999993993e-1f));
  p = fma(p, f, broadcast(3.3333331174e-1f));
  vf y = p * f * z;
  y = fma(e, broadcast(-2.12194440e-4f), y);
  y = fma(z, broadcast(-0.5f), y);
  y = fma(e, broadcast(0.693359375f), f + y);
  const vf infinity = broadcast(__builtin_inff()), tiny = broadcast(1.17549435e-38f);
  y = where_positive(infinity - x, y, x);                          // infinity, NaN
  y = where_positive(tiny - x, zero() - infinity, y);
  return where_positive(zero() - x, broadcast(__builtin_nanf("")), y);
}

// tanh within a few units in the last place: near 0 x + x^3 P(x^2) (Cephes, tanhf), beyond 1 - 2 / (exp(2 |x|) + 1).
inline vf tanh(vf x) {
  const vf a = abs(x), z = x * x;
  vf p = broadcast(-5.70498872745e-3f);
  p = fma(p, z, broadcast(2.06390887954e-2f));
  p = fma(p, z, broadcast(-5.37397155531e-2f));
  p = fma(p, z, broadcast(1.33314422036e-1f));
  p = fma(p, z, broadcast(-3.33332819422e-1f));
  const vf near = fma(p * z, x, x);
  const vf far = broadcast(1.0f) - broadcast(2.0f) / (exp(a + a) + broadcast(1.0f));
  return where_positive(broadcast(0.625f) - a, near, where_positive(x, far, zero() - far));
}

// The steps of a loop over n elements: f(j, Whole{}) for every full vector, then f(j, Tail{rest}). The tail
// runs the same instructions on a masked vector, so that a value does not depend on its place.
struct Whole {};
struct Tail {
  int n;
};
inline int lanes_of(Whole) { return vf::width; }
inline int lanes_of(Tail tail) { return tail.n; }
template <class F>
inline void for_vectors(int64_t n, F&& f) {
  int64_t j = 0;
  for (; j + vf::width <= n; j += vf::width) f(j, Whole{});
  if (j < n) f(j, Tail{static_cast<int>(n - j)});
}
template <class T>
inline vf load(const T* p, Whole) {
  return load(p);
}
template <class T>
inline vf load(const T* p, Tail tail) {
  return load(p, tail.n);
}
template <class T>
inline void store(T* p, vf a, Whole) {
  store(p, a);
}
template <class T>
inline void store(T* p, vf a, Tail tail) {
  store(p, a, tail.n);
}
// For what is not read soon: past the caches, without fetching the lines that it overwrites.
template <class T, class Lanes>
inline void stream(T* p, vf a, Lanes lanes) {
  store(p, a, lanes);
}
inline void stream(float* p, vf a, Whole lanes) {
  if (reinterpret_cast<unsigned long>(p) % sizeof(vf) == 0) stream_aligned(p, a);
  else store(p, a, lanes);
}
// a, and `other` past the tail.
inline vf kept(vf a, Whole, float = 0.0f) { return a; }
inline vf kept(vf a, Tail tail, float other = 0.0f) { return select_first(tail.n, a, broadcast(other)); }

}  // namespace qfm::QFM_ISA
