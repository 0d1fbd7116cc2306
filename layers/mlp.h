// The feed-forward branch of a transformer block: fc2(gelu(fc1(x))).
#pragma once
#include "layers/linear.h"

namespace qfm {

// x (..., D), w1 (H, D), b1 (H), w2 (D, H), b2 (D), residual (..., D) or an empty Var:
// One function, so that GELU and its backward are fused into the matrix products beside them.
//   y = gelu(x w1^T + b1) w2^T + b2 + residual; dx = (dy w2) gelu'(x w1^T + b1) w1
Var mlp(const Var& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2, const Var& residual = {});

struct Mlp {
  // fc1 (hidden, width) and fc2 (width, hidden) under the scopes given.
  Mlp(const Scope& fc1_scope, const Scope& fc2_scope, int64_t width, int64_t hidden, Init init = trunc_normal(0.02))
      : fc1(fc1_scope, width, hidden, init), fc2(fc2_scope, hidden, width, init) {}
  Var operator()(const Var& x, const Var& residual = {}) const {
    return mlp(x, fc1.weight, fc1.bias, fc2.weight, fc2.bias, residual);
  }

  Linear fc1, fc2;
};

}  // namespace qfm
