#include <math.h>

#include "kernels/attention/attention_head.h"
#include "kernels/gemm/gemm_tile.h"

namespace qfm::QFM_ISA {
namespace {

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
// n filled up to whole panels: the size of a packed side, and the distance between rows of scores.
int64_t padded(int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; }

// Hands out the workspace piece by piece. With no memory it only counts.
struct Pieces {
  float* memory;
  int64_t used = 0;
  float* take(int64_t n) {
    float* piece = memory ? memory + used : nullptr;
    used += (n + 15) / 16 * 16;
    return piece;
  }
};

// The right side of a product in panels; the rows of a panel are words, ld apart.
struct Panels {
  const float* data;
  int64_t step, ld;
};
// The rows themselves, for products over them (O = P V): in place, or packed in `memory`.
template <class T>
Panels panels_of(HeadRows<const T> x, int64_t rows, int64_t d, float* memory) {
  if constexpr (sizeof(T) == sizeof(float))
    if (d % kPanel == 0) return {x.data, kPanel, x.ld};
  const int64_t words = words_of<T>(rows);
  for (int64_t j = 0; j < d; j += kPanel)
    pack_panel(memory + j * words, x.data + j, x.ld, rows, static_cast<int>(smaller(kPanel, d - j)));
  return {memory, words * kPanel, kPanel};
}

// Their transpose, for products over head_dim (S = Q K^T).
template <class T>
Panels transposed_panels(HeadRows<const T> x, int64_t rows, int64_t d, float* memory) {
  const int64_t words = words_of<T>(d);
  for (int64_t j = 0; j < rows; j += kPanel)
    pack_panel_transposed(memory + j * words, x[j], x.ld, d, static_cast<int>(smaller(kPanel, rows - j)));
  return {memory, words * kPanel, kPanel};
}

// The panels from word i of their depth on.
Panels words_from(Panels b, int64_t i) { return {b.data + i * b.ld, b.step, b.ld}; }

// Rows [i, i + rows) as words of head_dim: in place, or packed in `copy`.
template <class T>
Strided words_of_rows(HeadRows<const T> x, int64_t i, int rows, int64_t d, float* copy) {
  constexpr int64_t per_word = Words<T>::elements;
  if (Words<T>::in_place && d % per_word == 0 && x.ld % per_word == 0)
    return {reinterpret_cast<const float*>(x[i]), x.ld / per_word, 1};
  const int64_t words = words_of<T>(d);
  for (int r = 0; r < rows; ++r)
    for_vectors(words, [&](int64_t j, auto lanes) {
      const int64_t rest = smaller(d - j * per_word, lanes_of(lanes) * per_word);
      store(copy + r * words + j, Words<T>::load(x[i + r] + j * per_word, rest), lanes);
    });
  return {copy, words, 1};
}

// c (rows, n) = A (rows, k words) B, B in panels. c has rows of ld >= padded(n).
template <class T>
void multiply(float* c, int64_t ld, int rows, int64_t n, int64_t k, Strided a, Panels b) {
  for (int64_t j = 0; j < n; j += kPanel)
    multiply_rows<typename Words<T>::Product>(rows, n - j, k, a, {b.data + j / kPanel * b.step, b.ld}, c + j, ld,
                                              false);
}

// y (rows, n) = factor * x, rows of x ld apart.
template <class T>
void write_rows(HeadRows<T> y, int64_t i, int rows, int64_t n, const float* x, int64_t ld,
                const float* factors, bool factor_per_row) {
  for (int r = 0; r < rows; ++r) {
    const vf factor = broadcast(factors[factor_per_row ? r : 0]);
    for_vectors(n, [&](int64_t j, auto lanes) { store(y[i + r] + j, load(x + r * ld + j) * factor, lanes); });
  }
}

// f(first row, rows) for an even cut of [begin, end) in tiles.
template <class F>
void for_tiles(int64_t begin, int64_t end, F&& f) {
  const int64_t rows = end - begin, count = (rows + kTileRows - 1) / kTileRows;
  for (int64_t t = 0; t < count; ++t) {
    const int64_t from = rows * t / count;
    f(begin + from, static_cast<int>(rows * (t + 1) / count - from));
  }
}

// n zeros, none where n < 0.
template <class T>
void clear(T* x, int64_t n) {
  for_vectors(n, [&](int64_t j, auto lanes) { store(x + j, zero(), lanes); });
}

// A row of scores x becomes exp(factor (x - max x)), rounded to Element where it stands. Returns the sum of what is not
// rounded, 1 for no scores, whose products are zeros; log_sum = log sum exp(factor x).
template <class Element>
float exponentials(float* x, int64_t n, float factor, float* log_sum) {
  vf top = broadcast(-INFINITY);
  for_vectors(n, [&](int64_t j, auto lanes) { top = max(top, kept(load(x + j), lanes, -INFINITY)); });
  const float shift = reduce_max(top) * factor;
  vf sum = zero();
  for_vectors(n, [&](int64_t j, auto lanes) {
    const vf p = exp(fma(load(x + j), broadcast(factor), broadcast(-shift)));
    store(reinterpret_cast<Element*>(x) + j, p);
    sum = sum + kept(p, lanes);
  });
  const float total = n > 0 ? reduce_add(sum) : 1.0f;
  if (log_sum) *log_sum = shift + logf(total);
  return total;
}

template <class T>
float dot(const T* x, const T* y, int64_t n) {
  vf sum = zero();
  for_vectors(n, [&](int64_t j, auto lanes) { sum = fma(load(x + j, lanes), load(y + j, lanes), sum); });
  return reduce_add(sum);
}

template <class T>
struct ForwardMemory {
  float *keys, *values, *scores, *out, *q;
  int64_t size;
  ForwardMemory(const AttentionShape& s, float* memory) {
    Pieces pieces{memory};
    keys = pieces.take(padded(s.keys) * words_of<T>(s.head_dim));
    values = pieces.take(padded(s.head_dim) * words_of<T>(s.keys));
    scores = pieces.take(kTileRows * padded(s.keys));
    out = pieces.take(kTileRows * padded(s.head_dim));
    q = pieces.take(kTileRows * words_of<T>(s.head_dim));
    size = pieces.used;
  }
};

template <class T>
struct BackwardMemory {
  float *keys_t, *values_t, *keys, *queries, *d_out, *p, *ds, *scores, *d_scores, *out, *q, *d_o;
  int64_t size;
  BackwardMemory(const AttentionShape& s, float* memory) {
    Pieces pieces{memory};
    const int64_t d = s.head_dim, ld = padded(s.keys), words = words_of<T>(d);
    keys_t = pieces.take(ld * words);
    values_t = pieces.take(ld * words);
    keys = pieces.take(padded(d) * words_of<T>(s.keys));
    queries = pieces.take(padded(d) * words_of<T>(s.queries));
    d_out = pieces.take(padded(d) * words_of<T>(s.queries));
    p = pieces.take(words_of<T>(s.queries) * ld);
    ds = pieces.take(words_of<T>(s.queries) * ld);
    scores = pieces.take(kTileRows * ld);
    d_scores = pieces.take(kTileRows * ld);
    out = pieces.take(kTileRows * padded(d));
    q = pieces.take(kTileRows * words);
    d_o = pieces.take(kTileRows * words);
    size = pieces.used;
  }
};

// Row i of P and of dS, from its scores and their gradients dP: as words over queries at p and ds, and dS as words over
// keys where dP stood. Zeros where the query does not see.
template <class T>
void probabilities(const AttentionBackward<T>& h, int64_t i, const float* scores, float* d_scores, float* p,
                   float* ds) {
  using Row = typename Words<T>::Element;
  const int64_t seen = h.visible.of(i), at = i % Words<T>::elements;
  const vf factor = broadcast(static_cast<float>(h.shape.scale())), lse = broadcast(h.lse[i]);
  const vf delta = broadcast(dot<T>(h.d_o[i], h.o[i], h.shape.head_dim));
  const auto keep = [&](int64_t j, vf probability, vf gradient) {
    Words<T>::put(p + j, at, probability);
    Words<T>::put(ds + j, at, gradient);
    store(reinterpret_cast<Row*>(d_scores) + j, gradient);
  };
  for_vectors(seen, [&](int64_t j, auto lanes) {
    const vf probability = exp(fma(load(scores + j), factor, zero() - lse));
    keep(j, kept(probability, lanes), kept(probability * (load(d_scores + j) - delta), lanes));
  });
  for (int64_t j = (seen + vf::width - 1) / vf::width * vf::width; j < h.visible.keys; j += vf::width)
    keep(j, zero(), zero());
}

}  // namespace

template <class T>
int64_t attention_forward_workspace(const AttentionShape& s) {
  return ForwardMemory<T>(s, nullptr).size;
}

template <class T>
void attention_forward_head(const AttentionForward<T>& h) {
  using Row = typename Words<T>::Element;
  const AttentionShape& s = h.shape;
  const int64_t d = s.head_dim, n = h.visible.keys, ld = padded(s.keys), ld_out = padded(d);
  const float factor = static_cast<float>(s.scale());
  const ForwardMemory<T> m(s, h.workspace);
  const Panels keys_t = transposed_panels(h.k, n, d, m.keys), values = panels_of(h.v, n, d, m.values);
  for_tiles(h.first, h.last, [&](int64_t i, int rows) {
    const int64_t most = h.visible.of(i + rows - 1), words = words_of<T>(most);
    multiply<T>(m.scores, ld, rows, most, words_of<T>(d), words_of_rows(h.q, i, rows, d, m.q), keys_t);
    float inverse[kTileRows];
    for (int r = 0; r < rows; ++r) {
      float* scores = m.scores + r * ld;
      const int64_t seen = h.visible.of(i + r);
      inverse[r] = 1.0f / exponentials<Row>(scores, seen, factor, h.lse ? h.lse + i + r : nullptr);
      clear(reinterpret_cast<Row*>(scores) + seen, words * Words<T>::elements - seen);
    }
    multiply<T>(m.out, ld_out, rows, d, words, {m.scores, ld, 1}, values);
    write_rows(h.o, i, rows, d, m.out, ld_out, inverse, true);
  });
}

template <class T>
int64_t attention_backward_workspace(const AttentionShape& s) {
  return BackwardMemory<T>(s, nullptr).size;
}

// The products are those of the plain code, over tiles of queries and then over tiles of keys.
template <class T>
void attention_backward_head(const AttentionBackward<T>& h) {
  const AttentionShape& s = h.shape;
  const int64_t d = s.head_dim, n = h.visible.keys, ld = padded(s.keys), ld_out = padded(d);
  constexpr int64_t per_word = Words<T>::elements;
  const float factor = static_cast<float>(s.scale()), one = 1.0f;
  const BackwardMemory<T> m(s, h.workspace);
  const Panels keys_t = transposed_panels(h.k, n, d, m.keys_t), keys = panels_of(h.k, n, d, m.keys);
  const Panels values_t = transposed_panels(h.v, n, d, m.values_t);
  const Panels queries = panels_of(h.q, s.queries, d, m.queries);
  const Panels d_out = panels_of(h.d_o, s.queries, d, m.d_out);
  for_tiles(0, s.queries, [&](int64_t i, int rows) {
    const int64_t most = h.visible.of(i + rows - 1);
    multiply<T>(m.scores, ld, rows, most, words_of<T>(d), words_of_rows(h.q, i, rows, d, m.q), keys_t);
    multiply<T>(m.d_scores, ld, rows, most, words_of<T>(d), words_of_rows(h.d_o, i, rows, d, m.d_o), values_t);
    for (int r = 0; r < rows; ++r) {
      const int64_t word = (i + r) / per_word * ld;
      probabilities(h, i + r, m.scores + r * ld, m.d_scores + r * ld, m.p + word, m.ds + word);
    }
    multiply<T>(m.out, ld_out, rows, d, words_of<T>(most), {m.d_scores, ld, 1}, keys);
    write_rows(h.dq, i, rows, d, m.out, ld_out, &factor, false);
  });
  for_tiles(0, n, [&](int64_t j, int rows) {
    const int64_t i = h.visible.first_query(j, s.queries) / per_word, count = words_of<T>(s.queries) - i;
    multiply<T>(m.out, ld_out, rows, d, count, {m.p + i * ld + j, 1, ld}, words_from(d_out, i));
    write_rows(h.dv, j, rows, d, m.out, ld_out, &one, false);
    multiply<T>(m.out, ld_out, rows, d, count, {m.ds + i * ld + j, 1, ld}, words_from(queries, i));
    write_rows(h.dk, j, rows, d, m.out, ld_out, &factor, false);
  });
  clear(m.out, ld_out);
  for (int64_t j = n; j < s.keys; ++j) {
    write_rows(h.dv, j, 1, d, m.out, ld_out, &one, false);
    write_rows(h.dk, j, 1, d, m.out, ld_out, &one, false);
  }
}

#define QFM_INSTANTIATE(T)                                                 \
  template int64_t attention_forward_workspace<T>(const AttentionShape&);  \
  template void attention_forward_head(const AttentionForward<T>&);        \
  template int64_t attention_backward_workspace<T>(const AttentionShape&); \
  template void attention_backward_head(const AttentionBackward<T>&);
#ifndef __AVX512BF16__  // whose code serves bf16 alone
QFM_INSTANTIATE(float)
#endif
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
