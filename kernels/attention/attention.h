// Scaled dot-product attention: o = softmax(q k^T / sqrt(d)) v per image and head, over the keys that the mask
// lets a query see; no dropout.
//
// FLOPs: forward 4 B H d for each query and key that it sees (without a mask Sq Sk of them), backward 8 (the
// recomputed q k^T is not counted).
// The forward keeps the log-sum-exp of each row of scores, the backward recomputes the probabilities from it:
// nothing of size Sq x Sk is kept.
//
// With T = bf16 scores, exponentials and all sums are F32. On CUDA, and on a CPU that multiplies pairs of bf16, the
// probabilities and the gradients of the scores are rounded to bf16 for the products that read them.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

// Causal: query i sees keys 0 .. i, whatever the number of keys (the upper left corner is aligned, as with PyTorch's
// is_causal). key_lengths, (batch) on the device of the data: image b has that many keys, and the others, padding,
// are not looked at; below 0 counts as 0, beyond the keys as all.
//
// A query that sees no key (those of an image of length 0) has o = 0, lse = -infinity and dq = 0. A key that no query
// sees has dk = dv = 0.
struct AttentionMask {
  bool causal = false;
  const int32_t* key_lengths = nullptr;
  bool any() const { return causal || key_lengths; }
};

struct AttentionShape {
  int64_t batch, heads, queries, keys, head_dim;
  AttentionMask mask = {};
  double scale() const;          // 1 / sqrt(head_dim)
  double forward_flops() const;  // of all keys, whatever key_lengths says
};

// What the mask leaves of one image.
template <class Int>
struct VisibleKeys {
  Int keys;
  bool causal;
  // Query i sees keys [0, of(i)): never fewer than the query before it.
  QFM_HD Int of(Int query) const { return causal && query + 1 < keys ? query + 1 : keys; }
  // The first of `queries` queries that sees the key, as do all after it.
  QFM_HD Int first_query(Int key, Int queries) const {
    return key >= keys ? queries : !causal ? 0 : key < queries ? key : queries;
  }
};
template <class Int>
QFM_HD VisibleKeys<Int> visible_keys(const AttentionShape& s, int64_t image) {
  const Int keys = static_cast<Int>(s.keys);
  if (!s.mask.key_lengths) return {keys, s.mask.causal};
  const Int length = s.mask.key_lengths[image];
  return {length < 0 ? 0 : length < keys ? length : keys, s.mask.causal};
}

// A (batch, tokens, heads * head_dim) view inside wider rows: row t of image b starts at data + (b * tokens +
// t) * ld, head h at + h * head_dim. A packed qkv (B, S, 3D) is three views with ld = 3D at offsets 0, D, 2D.
template <class T>
struct Heads {
  T* data;
  int64_t ld;
};

// lse (batch, heads, queries) = log sum_j exp(scale q . k_j), written for the backward (may be null in
// inference). T = float, bf16, double.
template <class T>
void attention_forward(Cpu, AttentionShape shape, Heads<T> o, acc<T>* lse, Heads<const T> q, Heads<const T> k,
                       Heads<const T> v);
template <class T>
void attention_forward(Cuda, AttentionShape shape, Heads<T> o, acc<T>* lse, Heads<const T> q,
                       Heads<const T> k, Heads<const T> v);
// Our own kernels, whatever the policy table. T = float, bf16. Throws Error for a head_dim over 2048
// and for batch * heads * max(queries, keys) of 2^31 or more.
template <class T>
void attention_forward_own(Cuda, AttentionShape shape, Heads<T> o, acc<T>* lse, Heads<const T> q,
                           Heads<const T> k, Heads<const T> v);

// Writes dq, dk, dv (every element of the views). One task owns (image, head), so no sum is split.
template <class T>
void attention_backward(Cpu, AttentionShape shape, Heads<T> dq, Heads<T> dk, Heads<T> dv, Heads<const T> d_o,
                        Heads<const T> q, Heads<const T> k, Heads<const T> v, Heads<const T> o,
                        const acc<T>* lse);
template <class T>
void attention_backward(Cuda, AttentionShape shape, Heads<T> dq, Heads<T> dk, Heads<T> dv, Heads<const T> d_o,
                        Heads<const T> q, Heads<const T> k, Heads<const T> v, Heads<const T> o,
                        const acc<T>* lse);
template <class T>
void attention_backward_own(Cuda, AttentionShape shape, Heads<T> dq, Heads<T> dk, Heads<T> dv,
                            Heads<const T> d_o, Heads<const T> q, Heads<const T> k, Heads<const T> v,
                            Heads<const T> o, const acc<T>* lse);

}  // namespace qfm
