// LayerScale (Touvron et al. 2021): a learned gain per channel on a residual branch.
#pragma once
#include <optional>
#include <string>

#include "engine/param.h"

namespace qfm {

// residual_layernorm (layernorm.h) applies it. `on` false has no parameter.
struct LayerScale {
  LayerScale(ParamSet& params, const std::string& name, int64_t width, bool on) {
    if (on) gamma = params.add(name + ".gamma", {width}, false);
  }
  std::optional<Param> gamma;
};

}  // namespace qfm
