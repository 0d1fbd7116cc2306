// The feed-forward branch of a transformer block: fc2(gelu(fc1(x))).
#pragma once
#include <string>

#include "layers/linear.h"

namespace qfm {

// x (..., D), w1 (H, D), b1 (H), w2 (D, H), b2 (D), residual (..., D) or an empty Var:
//   y = gelu(x w1^T + b1) w2^T + b2 + residual
// One function, so that GELU and its backward are fused into the matrix products beside them.
Var mlp(const Var& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2, const Var& residual = {},
        const PackedWeight* packed1 = nullptr, const PackedWeight* packed2 = nullptr);

struct Mlp {
  // `fc1` (hidden, width) and `fc2` (width, hidden), under the full names given.
  Mlp(ParamSet& params, const std::string& fc1_name, const std::string& fc2_name, int64_t width,
      int64_t hidden)
      : fc1(params, fc1_name, width, hidden), fc2(params, fc2_name, hidden, width) {}
  Var operator()(const Var& x, const Var& residual = {}) const {
    return mlp(x, fc1.weight, fc1.bias, fc2.weight, fc2.bias, residual, fc1.packed_or_null(),
               fc2.packed_or_null());
  }
  void freeze() { fc1.freeze(), fc2.freeze(); }

  Linear fc1, fc2;
};

}  // namespace qfm
