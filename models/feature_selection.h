// The feature selection head (method.md 2, our reconstruction): one gate per channel and image.
#pragma once
#include <cstdint>

#include "layers/layernorm.h"
#include "layers/linear.h"

namespace qfm {

struct FeatureSelection {
  FeatureSelection(ParamSet& params, int64_t width);
  // g = sigmoid(fc2(gelu(fc1(norm(mean_n P_n))))): patches (B, N, D) -> (B, D), each in (0, 1).
  Var operator()(const Var& patches) const;
  void init(uint64_t seed);  // near identity: fc2.weight 0, fc2.bias +4
  void freeze();

  LayerNorm norm;   // select.norm, eps 1e-6
  Linear fc1, fc2;  // select.fc1 D -> D/4, select.fc2 D/4 -> D
};

}  // namespace qfm
