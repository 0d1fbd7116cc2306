// Multi-head scaled dot-product attention, without its projections.
#pragma once
#include <cstdint>

#include "engine/autograd.h"

namespace qfm {

// Which keys a query sees. Causal: query i sees keys 0 .. i, as with PyTorch's is_causal, whatever the number of
// keys. key_lengths, I32 (B) or empty: the valid keys of each image; those behind them are padding. Where an image
// has none, y and all gradients are 0.
struct Mask {
  bool causal = false;
  Tensor key_lengths = {};
};

// qkv (B, S, 3D): query, key, value side by side, head h at columns h*d..(h+1)*d-1 of each -> (B, S, D).
// reader: as that of layernorm; the products inside are in INT8 then too.
//   y = softmax(q k^T / sqrt(d)) v; dv = p^T dy, ds = p (dy v^T - sum(dy y)), dq = ds k / sqrt(d), dk = ds^T q / sqrt(d)
Var self_attention(const Var& qkv, int64_t heads, const Mask& mask = {}, const Tensor& reader = {});

// q (B, Q, D), kv (B, N, 2D): key and value side by side -> (B, Q, D).
//   y = softmax(q k^T / sqrt(d)) v; as self_attention
Var cross_attention(const Var& q, const Var& kv, int64_t heads, const Mask& mask = {});

}  // namespace qfm
