#include "kernels/attention.h"

#include <algorithm>
#include <cmath>

#include "engine/base/error.h"
#include "engine/base/memory.h"
#include "engine/base/threads.h"

namespace qfm {
namespace {

void check(const AttentionShape& s) {
  QFM_CHECK(s.batch >= 0 && s.queries >= 0 && s.heads > 0 && s.keys > 0 && s.head_dim > 0,
            "attention: batch ", s.batch, ", heads ", s.heads, ", queries ", s.queries, ", keys ", s.keys,
            ", head_dim ", s.head_dim);
}

// The rows of one image and head.
template <class T>
struct Rows {
  T* data;
  int64_t ld;
  T* operator[](int64_t i) const { return data + i * ld; }
};
template <class T>
Rows<T> rows_of(Heads<T> x, const AttentionShape& s, int64_t tokens, int64_t task) {
  const int64_t image = task / s.heads, head = task % s.heads;
  return {x.data + image * tokens * x.ld + head * s.head_dim, x.ld};
}

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

template <class T>
void forward_head(const AttentionShape& s, Rows<T> o, acc<T>* lse, Rows<const T> q, Rows<const T> k,
                  Rows<const T> v) {
  const auto factor = static_cast<acc<T>>(s.scale());
  const Scratch memory(static_cast<size_t>(s.keys + s.head_dim) * sizeof(acc<T>));
  acc<T>*p = memory.as<acc<T>>(), *sum_pv = p + s.keys;
  for (int64_t i = 0; i < s.queries; ++i) {
    for (int64_t j = 0; j < s.keys; ++j) p[j] = dot(q[i], k[j], s.head_dim) * factor;
    const acc<T> top = *std::max_element(p, p + s.keys);
    acc<T> sum = 0;
    for (int64_t j = 0; j < s.keys; ++j) sum += p[j] = std::exp(p[j] - top);
    std::fill_n(sum_pv, s.head_dim, acc<T>{0});
    for (int64_t j = 0; j < s.keys; ++j) add_scaled(sum_pv, p[j], v[j], s.head_dim);
    write(o[i], sum_pv, 1 / sum, s.head_dim);
    if (lse) lse[i] = top + std::log(sum);
  }
}

// With P = softmax(S), S = scale Q K^T:  dV = P^T dO;  dP = dO V^T;  dS = P (dP - rowsum(dO O));
// dQ = scale dS K;  dK = scale dS^T Q.
template <class T>
void backward_head(const AttentionShape& s, Rows<T> dq, Rows<T> dk, Rows<T> dv, Rows<const T> d_o,
                   Rows<const T> q, Rows<const T> k, Rows<const T> v, Rows<const T> o, const acc<T>* lse) {
  const auto factor = static_cast<acc<T>>(s.scale());
  const int64_t d = s.head_dim, values = s.keys * d;
  const Scratch memory(static_cast<size_t>(2 * values + d) * sizeof(acc<T>));
  acc<T>*sum_dk = memory.as<acc<T>>(), *sum_dv = sum_dk + values, *sum_dq = sum_dv + values;
  std::fill_n(sum_dk, 2 * values, acc<T>{0});
  for (int64_t i = 0; i < s.queries; ++i) {
    const acc<T> delta = dot(d_o[i], o[i], d);
    std::fill_n(sum_dq, d, acc<T>{0});
    for (int64_t j = 0; j < s.keys; ++j) {
      const acc<T> p = std::exp(dot(q[i], k[j], d) * factor - lse[i]);
      const acc<T> ds = p * (dot(d_o[i], v[j], d) - delta);
      add_scaled(sum_dv + j * d, p, d_o[i], d);
      add_scaled(sum_dk + j * d, ds, q[i], d);
      add_scaled(sum_dq, ds, k[j], d);
    }
    write(dq[i], sum_dq, factor, d);
  }
  for (int64_t j = 0; j < s.keys; ++j) {
    write(dk[j], sum_dk + j * d, factor, d);
    write(dv[j], sum_dv + j * d, acc<T>{1}, d);
  }
}

}  // namespace

double AttentionShape::scale() const { return 1.0 / std::sqrt(static_cast<double>(head_dim)); }

template <class T>
void attention_forward(Cpu, AttentionShape s, Heads<T> o, acc<T>* lse, Heads<const T> q, Heads<const T> k,
                       Heads<const T> v) {
  check(s);
  parallel_for(s.batch * s.heads, [&](int64_t task) {
    forward_head<T>(s, rows_of(o, s, s.queries, task), lse ? lse + task * s.queries : nullptr,
                    rows_of(q, s, s.queries, task), rows_of(k, s, s.keys, task), rows_of(v, s, s.keys, task));
  });
}

template <class T>
void attention_backward(Cpu, AttentionShape s, Heads<T> dq, Heads<T> dk, Heads<T> dv, Heads<const T> d_o,
                        Heads<const T> q, Heads<const T> k, Heads<const T> v, Heads<const T> o,
                        const acc<T>* lse) {
  check(s);
  parallel_for(s.batch * s.heads, [&](int64_t task) {
    backward_head<T>(s, rows_of(dq, s, s.queries, task), rows_of(dk, s, s.keys, task),
                     rows_of(dv, s, s.keys, task), rows_of(d_o, s, s.queries, task),
                     rows_of(q, s, s.queries, task), rows_of(k, s, s.keys, task), rows_of(v, s, s.keys, task),
                     rows_of(o, s, s.queries, task), lse + task * s.queries);
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
