#include <math.h>

#include "kernels/attention/attention_head.h"
#include "kernels/common/simd_bytes.h"
#include "kernels/gemm/int8_product.h"
#include "kernels/pointwise/quantise.h"

namespace qfm::QFM_ISA {
namespace {

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t padded(int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; }
int64_t words_of_bytes(int64_t n) { return (n + 3) / 4; }

// Sizes in words; those of whole registers keep all of it aligned.
struct Memory {
  float *keys, *key_scales, *excess, *values, *value_scales, *rows, *scores, *probabilities, *out;
  int64_t size = 0;
  Memory(const AttentionShape& s, float* memory) {
    const auto take = [&](int64_t n) {
      float* piece = memory ? memory + size : nullptr;
      size += (n + 15) / 16 * 16;
      return piece;
    };
    const int64_t d = words_of_bytes(s.head_dim), n = padded(s.keys), columns = padded(s.head_dim);
    keys = take(n * d), key_scales = take(n), excess = take(n);
    values = take(columns * words_of_bytes(s.keys)), value_scales = take(columns);
    rows = take((n > kTileRows ? n : kTileRows) * d);
    scores = take(kTileRows * n), probabilities = take(kTileRows * words_of_bytes(s.keys));
    out = take(kTileRows * columns);
  }
};

#ifdef __AVX512F__
vf other_signs(vf bytes) {  // q + 128 becomes q
  return {_mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(bytes.v), _mm512_set1_epi8(-128)))};
}
vf four_rows(vf a, vf b, vf c, vf d) {
  const __m512i low = _mm512_set1_epi32(255);
  const auto byte = [&](vf x) { return _mm512_and_si512(_mm512_cvtps_epi32(x.v), low); };
  const __m512i pairs = _mm512_or_si512(byte(a), _mm512_slli_epi32(byte(b), 8));
  return {_mm512_castsi512_ps(
      _mm512_or_si512(pairs, _mm512_slli_epi32(_mm512_or_si512(byte(c), _mm512_slli_epi32(byte(d), 8)), 16)))};
}
#else
vf other_signs(vf bytes) {
  return {_mm256_castsi256_ps(_mm256_xor_si256(_mm256_castps_si256(bytes.v), _mm256_set1_epi8(-128)))};
}
vf four_rows(vf a, vf b, vf c, vf d) {
  const __m256i low = _mm256_set1_epi32(255);
  const auto byte = [&](vf x) { return _mm256_and_si256(_mm256_cvtps_epi32(x.v), low); };
  const __m256i pairs = _mm256_or_si256(byte(a), _mm256_slli_epi32(byte(b), 8));
  return {_mm256_castsi256_ps(
      _mm256_or_si256(pairs, _mm256_slli_epi32(_mm256_or_si256(byte(c), _mm256_slli_epi32(byte(d), 8)), 16)))};
}
#endif

// Rows [i, i + rows) in bytes, words apart; their scales, times factor.
void quantise(HeadRows<const float> x, int64_t i, int64_t rows, int64_t d, float factor, float* bytes, float* scales) {
  const int64_t words = words_of_bytes(d);
  for (int64_t r = 0; r < rows; ++r)
    scales[r] = factor * quantise_row(reinterpret_cast<uint8_t*>(bytes + r * words), x[i + r], d, 4 * words,
                                      kLeastQuantised);
}

// Keys in panels; the excess of a column is what a row of bytes 128 makes of it.
void pack_keys(const Memory& m, HeadRows<const float> k, int64_t n, int64_t d) {
  const int64_t words = words_of_bytes(d);
  quantise(k, 0, n, d, 1, m.rows, m.key_scales);
  for (int64_t j = 0; j < n; j += kPanel)
    pack_panel_transposed<float>(m.keys + j * words, m.rows + j * words, words, words,
                                 static_cast<int>(smaller(kPanel, n - j)));
  for (int64_t at = 0; at < padded(n) * words; at += vf::width) store(m.keys + at, other_signs(load(m.keys + at)));
  std::memset(m.rows, 128, static_cast<size_t>(words) * 4);
  for (int64_t j = 0; j < n; j += kPanel)
    multiply_int8_rows(1, kPanel, words, {m.rows, words, 1}, {m.keys + j * words, kPanel}, m.excess + j, kPanel);
}

// Values in panels of columns, a word of four keys each. Columns that are not finite have the scale NaN.
template <class Lanes>
void pack_value_columns(float* to, float* scales, HeadRows<const float> v, int64_t n, int64_t j, Lanes lanes) {
  vf magnitude = zero();
  for (int64_t i = 0; i < n; ++i) magnitude = larger_magnitude(magnitude, load(v[i] + j, lanes));
  const vf least = broadcast(kLeastQuantised);  // zeros remain zeros
  const vf inverse = broadcast(127.0f) / max(least, magnitude);
  store(scales, (magnitude + (magnitude - magnitude)) * broadcast(1.0f / 127.0f));
  for (int64_t i = 0; i < n; i += 4, to += kPanel) {
    const auto row = [&](int64_t r) { return i + r < n ? load(v[i + r] + j, lanes) * inverse : zero(); };
    store(to, four_rows(row(0), row(1), row(2), row(3)));
  }
}
void pack_values(const Memory& m, HeadRows<const float> v, int64_t n, int64_t d) {
  const int64_t words = words_of_bytes(n);
  for_vectors(padded(d), [&](int64_t j, auto) {
    float* to = m.values + j / kPanel * kPanel * words + j % kPanel;
    if (j + vf::width <= d) pack_value_columns(to, m.value_scales + j, v, n, j, Whole{});
    else pack_value_columns(to, m.value_scales + j, v, n, j, Tail{static_cast<int>(j < d ? d - j : 0)});
  });
}

// A row of integer scores becomes probabilities in 255 steps, bytes that lie at `to`, zeros up to a whole word. Returns
// their sum, NaN where a score is; 1 for no scores.
float probabilities(float* x, const Memory& m, int64_t n, float factor, uint8_t* to) {
  std::memset(to + (n > 0 ? (n - 1) / 4 * 4 : 0), 0, 4);
  if (n == 0) return 1;
  vf top = broadcast(-INFINITY);
  for_vectors(n, [&](int64_t j, auto lanes) {
    const vf s = whole(load(x + j), load(m.excess + j)) * load(m.key_scales + j) * broadcast(factor);
    store(x + j, s);
    top = max(top, kept(s, lanes, -INFINITY));
  });
  const vf shift = broadcast(reduce_max(top));
  vf sum = zero();
  for_vectors(n, [&](int64_t j, auto lanes) {
    const vf p = round(exp(load(x + j) - shift) * broadcast(255.0f));
    store_bytes<0>(to + j, p, lanes);
    sum = sum + kept(p, lanes);
  });
  return reduce_add(sum);
}

}  // namespace

int64_t attention_int8_workspace(const AttentionShape& s) { return Memory(s, nullptr).size; }

void attention_int8_head(const AttentionForward<float>& h) {
  const AttentionShape& s = h.shape;
  const int64_t d = s.head_dim, n = h.visible.keys, ld = padded(s.keys), ld_out = padded(d);
  const int64_t words = words_of_bytes(d), ld_p = words_of_bytes(s.keys), count = h.last - h.first;
  const Memory m(s, h.workspace);
  pack_keys(m, h.k, n, d), pack_values(m, h.v, n, d);
  const int64_t tiles = (count + kTileRows - 1) / kTileRows;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t i = h.first + count * t / tiles;
    const int rows = static_cast<int>(h.first + count * (t + 1) / tiles - i);
    const int64_t most = h.visible.of(i + rows - 1);
    float factors[kTileRows], inverse[kTileRows];
    quantise(h.q, i, rows, d, static_cast<float>(s.scale()), m.rows, factors);
    for (int64_t j = 0; j < most; j += kPanel)
      multiply_int8_rows(rows, most - j, words, {m.rows, words, 1}, {m.keys + j * words, kPanel}, m.scores + j, ld);
    for (int r = 0; r < rows; ++r) {
      uint8_t* p = reinterpret_cast<uint8_t*>(m.probabilities + r * ld_p);
      const int64_t seen = h.visible.of(i + r), end = words_of_bytes(seen);
      inverse[r] = 1.0f / probabilities(m.scores + r * ld, m, seen, factors[r], p);
      std::memset(p + 4 * end, 0, static_cast<size_t>(4 * (words_of_bytes(most) - end)));
    }
    for (int64_t j = 0; j < d; j += kPanel)
      multiply_int8_rows(rows, d - j, words_of_bytes(most), {m.probabilities, ld_p, 1},
                         {m.values + j * words_of_bytes(n), kPanel}, m.out + j, ld_out);
    for (int r = 0; r < rows; ++r)
      for_vectors(d, [&](int64_t j, auto lanes) {
        const vf sum = whole(load(m.out + r * ld_out + j));
        store(h.o[i + r] + j, sum * load(m.value_scales + j) * broadcast(inverse[r]), lanes);
      });
  }
}

}  // namespace qfm::QFM_ISA
