// LayerScale (Touvron et al. 2021): a learned gain per channel on a residual branch.
#pragma once
#include <optional>

#include "engine/scope.h"

namespace qfm {

// residual_layernorm (layernorm.h) applies it. `on` false has no parameter.
struct LayerScale {
  LayerScale(const Scope& scope, int64_t width, bool on, double initial) {
    if (on) gamma = scope.vector("gamma", {width}, constant(initial));
  }
  std::optional<Param> gamma;
};

}  // namespace qfm
