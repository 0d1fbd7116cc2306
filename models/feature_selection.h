// The feature selection head (models/METHOD.md 2, our reconstruction): one gate per channel and image.
#pragma once
#include <cstdint>

#include "layers/layernorm.h"
#include "layers/linear.h"

namespace qfm {

// A channel whose gate is below this counts as closed.
inline constexpr double kClosedGate = 0.5;

struct FeatureSelection {
  FeatureSelection(ParamSet& params, int64_t width);
  // g = sigmoid(fc2(gelu(fc1(norm(mean_n P_n))))): patches (B, N, D) -> (B, D), each in (0, 1).
  Var operator()(const Var& patches) const;
  void init(uint64_t seed);  // near identity: fc2.weight 0, fc2.bias +4
  void freeze();
  // The gate of a photo whose normalised mean feature is the average one (all 0 before the norm's weight and
  // bias): what the head does whatever it sees. (D), F32 on the CPU.
  Tensor gate_at_mean() const;

  LayerNorm norm;   // select.norm, eps 1e-6
  Linear fc1, fc2;  // select.fc1 D -> D/4, select.fc2 D/4 -> D
};

}  // namespace qfm
