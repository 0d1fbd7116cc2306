#include "kernels/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/base/error.h"
#include "engine/base/threads.h"
#include "engine/memory/memory.h"
#include "kernels/attention/attention_blocks.h"
#include "kernels/common/parallel_loops.h"

namespace qfm {
namespace {

template <class T>
acc<T> dot(const T* x, const T* y, int64_t n) {
  acc<T> sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<acc<T>>(x[i]) * static_cast<acc<T>>(y[i]);
  return sum;
}
// y += factor * x.
template <class T>
void add_scaled(acc<T>* y, acc<T> factor, const T* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += factor * static_cast<acc<T>>(x[i]);
}
template <class T>
void write(T* y, const acc<T>* x, acc<T> factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(x[i] * factor);
}

}  // namespace

// The readable code: what every other path must agree with.
namespace plain {

template <class T>
int64_t attention_forward_workspace(const AttentionShape& s) {
  return s.keys + s.head_dim;
}

template <class T>
void attention_forward_head(const AttentionForward<T>& h) {
  const AttentionShape& s = h.shape;
  const auto factor = static_cast<acc<T>>(s.scale());
  acc<T>*p = h.workspace, *sum_pv = p + s.keys;
  for (int64_t i = h.first; i < h.last; ++i) {
    const int64_t seen = h.visible.of(i);
    acc<T> top = -std::numeric_limits<acc<T>>::infinity();
    for (int64_t j = 0; j < seen; ++j) top = std::max(top, p[j] = dot(h.q[i], h.k[j], s.head_dim) * factor);
    acc<T> sum = seen > 0 ? 0 : 1;  // the zeros of a query that sees nothing are divided by it
    for (int64_t j = 0; j < seen; ++j) sum += p[j] = std::exp(p[j] - top);
    std::fill_n(sum_pv, s.head_dim, acc<T>{0});
    for (int64_t j = 0; j < seen; ++j) add_scaled(sum_pv, p[j], h.v[j], s.head_dim);
    write(h.o[i], sum_pv, 1 / sum, s.head_dim);
    if (h.lse) h.lse[i] = top + std::log(sum);
  }
}

template <class T>
int64_t attention_backward_workspace(const AttentionShape& s) {
  return (2 * s.keys + 1) * s.head_dim;
}

// With P = softmax(S), S = scale Q K^T:  dV = P^T dO;  dP = dO V^T;  dS = P (dP - rowsum(dO O));
// dQ = scale dS K;  dK = scale dS^T Q.
template <class T>
void attention_backward_head(const AttentionBackward<T>& h) {
  const AttentionShape& s = h.shape;
  const auto factor = static_cast<acc<T>>(s.scale());
  const int64_t d = s.head_dim;
  acc<T>*sum_dk = h.workspace, *sum_dv = sum_dk + s.keys * d, *sum_dq = sum_dv + s.keys * d;
  std::fill_n(sum_dk, 2 * s.keys * d, acc<T>{0});
  for (int64_t i = 0; i < s.queries; ++i) {
    const acc<T> delta = dot<T>(h.d_o[i], h.o[i], d);
    std::fill_n(sum_dq, d, acc<T>{0});
    for (int64_t j = 0; j < h.visible.of(i); ++j) {
      const acc<T> p = std::exp(dot(h.q[i], h.k[j], d) * factor - h.lse[i]);
      const acc<T> ds = p * (dot(h.d_o[i], h.v[j], d) - delta);
      add_scaled(sum_dv + j * d, p, h.d_o[i], d);
      add_scaled(sum_dk + j * d, ds, h.q[i], d);
      add_scaled(sum_dq, ds, h.k[j], d);
    }
    write(h.dq[i], sum_dq, factor, d);
  }
  for (int64_t j = 0; j < s.keys; ++j) {
    write(h.dk[j], sum_dk + j * d, factor, d);
    write(h.dv[j], sum_dv + j * d, acc<T>{1}, d);
  }
}

}  // namespace plain

double AttentionShape::scale() const { return 1.0 / std::sqrt(static_cast<double>(head_dim)); }
double AttentionShape::forward_flops() const {
  const auto q = static_cast<double>(queries), k = static_cast<double>(keys), corner = std::min(q, k);
  const double seen = mask.causal ? corner * (corner + 1) / 2 + (q - corner) * k : q * k;
  return 4.0 * static_cast<double>(batch * heads * head_dim) * seen;
}

template <class T>
void attention_forward(Cpu, AttentionShape s, Heads<T> o, acc<T>* lse, Heads<const T> q, Heads<const T> k,
                       Heads<const T> v) {
  const auto run_head = QFM_BEST_DOT(attention_forward_head, T);
  const size_t bytes = static_cast<size_t>(QFM_BEST_DOT(attention_forward_workspace, T)(s)) * sizeof(acc<T>);
  for_head_blocks(s, [&](int64_t head, int64_t first, int64_t last) {
    const Scratch workspace(bytes);
    run_head({s, visible_keys<int64_t>(s, head / s.heads), rows_of_head(o, s, s.queries, head),
              lse ? lse + head * s.queries : nullptr, rows_of_head(q, s, s.queries, head),
              rows_of_head(k, s, s.keys, head), rows_of_head(v, s, s.keys, head), first, last,
              workspace.as<acc<T>>()});
  });
}

template <class T>
void attention_backward(Cpu, AttentionShape s, Heads<T> dq, Heads<T> dk, Heads<T> dv, Heads<const T> d_o,
                        Heads<const T> q, Heads<const T> k, Heads<const T> v, Heads<const T> o,
                        const acc<T>* lse) {
  check_attention(s);
  const auto run_head = QFM_BEST_DOT(attention_backward_head, T);
  const size_t bytes = static_cast<size_t>(QFM_BEST_DOT(attention_backward_workspace, T)(s)) * sizeof(acc<T>);
  parallel_for(s.batch * s.heads, [&](int64_t head) {
    const Scratch workspace(bytes);
    const auto of_queries = [&](auto x) { return rows_of_head(x, s, s.queries, head); };
    const auto of_keys = [&](auto x) { return rows_of_head(x, s, s.keys, head); };
    run_head({s, visible_keys<int64_t>(s, head / s.heads), of_queries(dq), of_keys(dk), of_keys(dv),
              of_queries(d_o), of_queries(q), of_keys(k), of_keys(v), of_queries(o), lse + head * s.queries,
              workspace.as<acc<T>>()});
  });
}

#define QFM_INSTANTIATE(T)                                                                                \
  template void attention_forward(Cpu, AttentionShape, Heads<T>, acc<T>*, Heads<const T>, Heads<const T>, \
                                  Heads<const T>);                                                        \
  template void attention_backward(Cpu, AttentionShape, Heads<T>, Heads<T>, Heads<T>, Heads<const T>,     \
                                   Heads<const T>, Heads<const T>, Heads<const T>, Heads<const T>,        \
                                   const acc<T>*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
