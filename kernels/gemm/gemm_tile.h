// The innermost loop of matrix products and attention, for files compiled per instruction set: a tile of C
// held in registers while k runs, and the packed form of B that it reads. Depths here count words (gemm_words.h).
#pragma once
#include "kernels/gemm/gemm_words.h"

namespace qfm::QFM_ISA {

// B is packed in panels of kPanel columns, [n / kPanel][k][kPanel], the last panel filled up with zeros.
inline constexpr int kPanel = 2 * vf::width;
// Two registers of C a row, two of B and a broadcast of A fit the 32 registers of AVX-512, the 16 of AVX2.
// GCC 12 keeps all of them in registers (tests/kernels/gemm_spill.sh looks).
inline constexpr int kTileRows = vf::width == 16 ? 14 : 6;

// Element (i, p) at data[i * row + p * step]: rows in either order.
struct Strided {
  const float* data;
  int64_t row, step;
};
inline int64_t step_after(const Strided& a, int64_t) { return a.step; }
// The same where steps differ: deltas[p] from depth p to the next. What lies `ahead` is wanted soon.
struct Stepped {
  const float* data;
  int64_t row;
  const int64_t* deltas;
  int64_t ahead;
};
inline int64_t step_after(const Stepped& a, int64_t p) { return a.deltas[p]; }
inline void prefetch(const Strided&, const float*) {}
inline void prefetch(const Stepped& a, const float* at) { __builtin_prefetch(at + a.ahead); }

// kPanel columns of B: in a panel (ld = kPanel), or in place in a matrix that is not transposed.
struct Columns {
  const float* data;
  int64_t ld;
};

// C (R, V vectors), its rows ldc apart: = A B, or += A B with `add`, one chain of products over p for each element.
template <class Product, int R, int V, class Rows>
[[gnu::noinline]] void multiply_tile(int64_t k, Rows a, Columns columns, float* c, int64_t ldc, bool add) {
  vf sum[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < V; ++j) sum[i][j] = add ? load(c + i * ldc + j * vf::width) : zero();
  // Every third row has a pointer, the two after it are addressed from there: few enough registers.
  const float* at[(R + 2) / 3];
  for (int g = 0; 3 * g < R; ++g) at[g] = a.data + 3 * g * a.row;
  const float* b = columns.data;
  for (int64_t p = 0; p < k; ++p, b += columns.ld) {
    vf row[V];
    for (int j = 0; j < V; ++j) row[j] = load(b + j * vf::width);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const vf x = broadcast(at[i / 3][i % 3 * a.row]);
      for (int j = 0; j < V; ++j) sum[i][j] = Product::add(sum[i][j], x, row[j]);
    }
    const int64_t step = step_after(a, p);
#pragma GCC unroll 16
    for (int g = 0; 3 * g < R; ++g) prefetch(a, at[g]), at[g] += step;
  }
  asm("" : "+r"(c));  // or GCC computes and spills the addresses of all rows before the loop
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i, c += ldc)
    for (int j = 0; j < V; ++j) store(c + j * vf::width, sum[i][j]);
}

// multiply_tile for a number of rows known at run time, 1 .. kTileRows. A panel of which at most one vector
// of columns is wanted is multiplied by half.
template <class Product, int V, int R = kTileRows, class Rows>
inline void multiply_rows_of(int rows, int64_t k, Rows a, Columns b, float* c, int64_t ldc, bool add) {
  if (rows == R) return multiply_tile<Product, R, V>(k, a, b, c, ldc, add);
  if constexpr (R > 1) multiply_rows_of<Product, V, R - 1>(rows, k, a, b, c, ldc, add);
}
template <class Product = FloatProduct, class Rows>
inline void multiply_rows(int rows, int64_t columns, int64_t k, Rows a, Columns b, float* c, int64_t ldc,
                          bool add) {
  if (columns > vf::width) multiply_rows_of<Product, 2>(rows, k, a, b, c, ldc, add);
  else multiply_rows_of<Product, 1>(rows, k, a, b, c, ldc, add);
}

#ifdef __AVX512F__
inline vf pairs_low(vf a, vf b) { return {_mm512_unpacklo_ps(a.v, b.v)}; }
inline vf pairs_high(vf a, vf b) { return {_mm512_unpackhi_ps(a.v, b.v)}; }
inline vf quads(vf a, vf b, bool high) {
  const __m512d x = _mm512_castps_pd(a.v), y = _mm512_castps_pd(b.v);
  return {_mm512_castpd_ps(high ? _mm512_unpackhi_pd(x, y) : _mm512_unpacklo_pd(x, y))};
}
inline vf even_lanes(vf a, vf b) { return {_mm512_shuffle_f32x4(a.v, b.v, 0x88)}; }
inline vf odd_lanes(vf a, vf b) { return {_mm512_shuffle_f32x4(a.v, b.v, 0xdd)}; }
#else
inline vf pairs_low(vf a, vf b) { return {_mm256_unpacklo_ps(a.v, b.v)}; }
inline vf pairs_high(vf a, vf b) { return {_mm256_unpackhi_ps(a.v, b.v)}; }
inline vf quads(vf a, vf b, bool high) {
  const __m256d x = _mm256_castps_pd(a.v), y = _mm256_castps_pd(b.v);
  return {_mm256_castpd_ps(high ? _mm256_unpackhi_pd(x, y) : _mm256_unpacklo_pd(x, y))};
}
inline vf even_lanes(vf a, vf b) { return {_mm256_permute2f128_ps(a.v, b.v, 0x20)}; }
inline vf odd_lanes(vf a, vf b) { return {_mm256_permute2f128_ps(a.v, b.v, 0x31)}; }
#endif

// r[i][j] becomes r[j][i].
inline void transpose(vf (&r)[vf::width]) {
  vf u[vf::width];  // u[4 g + c], 128-bit lane l = rows 4 g .. 4 g + 3 of column 4 l + c
#pragma GCC unroll 4
  for (int g = 0; g < vf::width; g += 4) {
    const vf low01 = pairs_low(r[g], r[g + 1]), high01 = pairs_high(r[g], r[g + 1]);
    const vf low23 = pairs_low(r[g + 2], r[g + 3]), high23 = pairs_high(r[g + 2], r[g + 3]);
    u[g] = quads(low01, low23, false), u[g + 1] = quads(low01, low23, true);
    u[g + 2] = quads(high01, high23, false), u[g + 3] = quads(high01, high23, true);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    if constexpr (vf::width == 16) {
      const vf even0 = even_lanes(u[c], u[4 + c]), even1 = even_lanes(u[8 + c], u[12 + c]);
      const vf odd0 = odd_lanes(u[c], u[4 + c]), odd1 = odd_lanes(u[8 + c], u[12 + c]);
      r[c] = even_lanes(even0, even1), r[8 + c] = odd_lanes(even0, even1);
      r[4 + c] = even_lanes(odd0, odd1), r[12 + c] = odd_lanes(odd0, odd1);
    } else {
      r[c] = even_lanes(u[c], u[4 + c]), r[4 + c] = odd_lanes(u[c], u[4 + c]);
    }
  }
}

// One panel from `columns` <= kPanel columns of a (k, columns) matrix, rows ld apart; k counts elements.
template <class T>
void pack_panel(float* panel, const T* b, int64_t ld, int64_t k, int columns) {
  constexpr int per_word = Words<T>::elements;
  for (int64_t p = 0; p < k; p += per_word, b += per_word * ld, panel += kPanel)
    for (int j = 0; j < kPanel; j += vf::width)
      store(panel + j, columns > j ? Words<T>::across(b + j, ld, k - p, columns - j) : zero());
}

// The same from the transposed storage (columns, k), rows ld apart.
template <class T>
void pack_panel_transposed(float* panel, const T* b, int64_t ld, int64_t k, int columns) {
  const int64_t words = words_of<T>(k);
  for (int j = 0; j < kPanel; j += vf::width)
    for (int64_t p = 0; p < words; p += vf::width) {
      const int depth = static_cast<int>(words - p < vf::width ? words - p : vf::width);
      const int64_t at = p * Words<T>::elements;
      vf r[vf::width];
      for (int i = 0; i < vf::width; ++i)
        r[i] = j + i < columns ? Words<T>::load(b + (j + i) * ld + at, k - at) : zero();
      transpose(r);
      for (int i = 0; i < depth; ++i) store(panel + (p + i) * kPanel + j, r[i]);
    }
}

}  // namespace qfm::QFM_ISA
