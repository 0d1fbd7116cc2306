// Scaled dot-product attention: o = softmax(q k^T / sqrt(d)) v per image and head, no mask, no dropout.
//
// FLOPs: forward 4 B H Sq Sk d, backward 8 B H Sq Sk d (the recomputed q k^T is not counted).
// The forward keeps the log-sum-exp of each row of scores, the backward recomputes the probabilities from it:
// nothing of size Sq x Sk is kept.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

struct AttentionShape {
  int64_t batch, heads, queries, keys, head_dim;
  double scale() const;  // 1 / sqrt(head_dim)
  double forward_flops() const {
    return 4.0 * static_cast<double>(batch * heads * queries) * static_cast<double>(keys * head_dim);
  }
};

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
