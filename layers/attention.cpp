#include "layers/attention.h"

#include "engine/dispatch.h"
#include "engine/packed_weight.h"
#include "kernels/attention/attention_int8.h"
#include "layers/linear.h"

namespace qfm {
namespace {

// The lengths' values are looked at where that waits for no GPU; kernels bound them to 0 .. keys.
AttentionMask checked(const char* op, const Mask& mask, const Tensor& x, int64_t keys) {
  const Tensor& lengths = mask.key_lengths;
  if (lengths.empty()) return {mask.causal};
  QFM_CHECK(lengths.dtype() == DType::I32 && lengths.shape() == Shape({x.dim(0)}), op, ": key_lengths is ",
            name_of(lengths.dtype()), " ", lengths.shape(), ", wanted I32 ", Shape({x.dim(0)}));
  QFM_CHECK(lengths.device() == x.device(), op, ": key_lengths is on ", name_of(lengths.device()),
            ", the tokens are on ", name_of(x.device()));
  if (lengths.device() == cpu_device)
    for (const int32_t length : lengths.span<int32_t>())
      QFM_CHECK(length >= 0 && length <= keys, op, ": a key length is ", length, ", of ", keys, " keys");
  return {mask.causal, lengths.data<int32_t>()};
}

// Columns [at, at + width) of a packed (B, T, ld) tensor as the kernel's view.
template <class T>
Heads<T> view(const Tensor& packed, int64_t at) {
  return {ptr<T>(packed) + at, packed.dim(2)};
}

Op cost(const char* name, const AttentionShape& s, const Tensor& like, double factor) {
  const double elements =
      static_cast<double>(s.batch * s.heads * s.head_dim) * static_cast<double>(2 * s.queries + 2 * s.keys);
  return {name, factor * s.forward_flops(), factor * elements * static_cast<double>(size_of(like.dtype()))};
}

struct Result {
  Tensor o, lse;
};

// q at column q_at of `queries`, k and v at columns k_at and v_at of `keys`.
Result forward(const AttentionShape& s, const Tensor& queries, int64_t q_at, const Tensor& keys, int64_t k_at,
               int64_t v_at) {
  Result r{like(queries, {s.batch, s.queries, s.heads * s.head_dim}),
           acc_like(queries, {s.batch, s.heads, s.queries})};
  dispatch(cost("attention", s, queries, 1), queries, [&](auto dev, auto t) {
    using T = decltype(t);
    attention_forward<T>(dev, s, view<T>(r.o, 0), ptr<acc<T>>(r.lse), view<const T>(queries, q_at),
                         view<const T>(keys, k_at), view<const T>(keys, v_at));
  });
  return r;
}

Tensor int8_forward(const AttentionShape& s, const Tensor& qkv) {
  const int64_t d = s.heads * s.head_dim;
  const Tensor o = like(qkv, {s.batch, s.queries, d});
  const ProfileScope scope(cost("attention.int8", s, qkv, 1));
  attention_forward_int8(Cpu{}, s, view<float>(o, 0), view<const float>(qkv, 0), view<const float>(qkv, d),
                         view<const float>(qkv, 2 * d));
  return o;
}

void backward(const AttentionShape& s, const Tensor& dqueries, const Tensor& dkeys, const Tensor& dy,
              const Tensor& queries, int64_t q_at, const Tensor& keys, int64_t k_at, int64_t v_at,
              const Result& saved) {
  dispatch(cost("attention.backward", s, dy, 2), dy, [&](auto dev, auto t) {
    using T = decltype(t);
    attention_backward<T>(dev, s, view<T>(dqueries, q_at), view<T>(dkeys, k_at), view<T>(dkeys, v_at),
                          view<const T>(dy, 0), view<const T>(queries, q_at), view<const T>(keys, k_at),
                          view<const T>(keys, v_at), view<const T>(saved.o, 0), ptr<const acc<T>>(saved.lse));
  });
}

}  // namespace

Var self_attention(const Var& qkv, int64_t heads, const Mask& mask, const Tensor& reader) {
  QFM_CHECK(qkv.value.rank() == 3 && heads > 0 && qkv.dim(2) % (3 * heads) == 0, "self_attention: qkv is ",
            qkv.shape(), " for ", heads, " heads");
  const int64_t d = qkv.dim(2) / 3;
  const AttentionShape s{qkv.dim(0), heads,     qkv.dim(1),
                         qkv.dim(1), d / heads, checked("self_attention", mask, qkv.value, qkv.dim(1))};
  if (reads_int8(reader) && !needs_graph({&qkv})) return Var(quantised(int8_forward(s, qkv.value)));
  const Result r = forward(s, qkv.value, 0, qkv.value, d, 2 * d);
  return record("self_attention", r.o, {qkv},
                [s, d, r, x = qkv.value, kept = mask.key_lengths](const Tensor& dy) -> Grads {
                  const Tensor dx = like(x);
                  backward(s, dx, dx, dy, x, 0, x, d, 2 * d, r);
                  return {dx};
                });
}

Var cross_attention(const Var& q, const Var& kv, int64_t heads, const Mask& mask) {
  QFM_CHECK(q.value.rank() == 3 && kv.value.rank() == 3 && kv.dim(2) == 2 * q.dim(2) &&
                q.dim(0) == kv.dim(0) && heads > 0 && q.dim(2) % heads == 0,
            "cross_attention: q is ", q.shape(), ", kv is ", kv.shape(), " for ", heads, " heads");
  const int64_t d = q.dim(2);
  const AttentionShape s{q.dim(0),  heads,     q.dim(1),
                         kv.dim(1), d / heads, checked("cross_attention", mask, kv.value, kv.dim(1))};
  const Result r = forward(s, q.value, 0, kv.value, 0, d);
  return record("cross_attention", r.o, {q, kv},
                [s, d, r, qv = q.value, kvv = kv.value, kept = mask.key_lengths](const Tensor& dy) -> Grads {
                  const Tensor dq = like(qv), dkv = like(kvv);
                  backward(s, dq, dkv, dy, qv, 0, kvv, 0, d, r);
                  return {dq, dkv};
                });
}

}  // namespace qfm
