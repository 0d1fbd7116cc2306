// LayerScale (Touvron et al. 2021): a learned gain per channel on a residual branch.
#pragma once
#include <optional>

#include "engine/autograd.h"
#include "engine/scope.h"

namespace qfm {

// x (..., C), gamma (C), residual (..., C) or an empty Var: y = gamma * x + residual.
Var layerscale(const Var& x, const Var& gamma, const Var& residual = {});

// A switch as much as a layer: `on` false has no parameter, and callers add the residual themselves.
struct LayerScale {
  LayerScale(const Scope& scope, int64_t width, bool on, double initial) {
    if (on) gamma = scope.vector("gamma", {width}, constant(initial));
  }
  std::optional<Param> gamma;
};

}  // namespace qfm
