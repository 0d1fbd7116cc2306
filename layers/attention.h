// Multi-head scaled dot-product attention, without its projections.
#pragma once
#include <cstdint>

#include "engine/autograd.h"

namespace qfm {

// qkv (B, S, 3D): query, key, value side by side, head h at columns h*d..(h+1)*d-1 of each -> (B, S, D).
Var self_attention(const Var& qkv, int64_t heads);

// q (B, Q, D), kv (B, N, 2D): key and value side by side -> (B, Q, D).
Var cross_attention(const Var& q, const Var& kv, int64_t heads);

}  // namespace qfm
