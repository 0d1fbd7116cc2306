// Layer normalisation (Ba et al. 2016) over the last dimension.
#pragma once
#include <string>

#include "engine/autograd.h"
#include "engine/param.h"

namespace qfm {

// x (..., C), w (C), b (C): y = (x - mean) / sqrt(var + eps) * w + b, var biased.
Var layernorm(const Var& x, const Var& w, const Var& b, double eps);

struct LayerNorm {
  LayerNorm(ParamSet& params, const std::string& name, int64_t width, double eps)
      : weight(params.add(name + ".weight", {width}, false)),
        bias(params.add(name + ".bias", {width}, false)),
        eps(eps) {}
  Var operator()(const Var& x) const { return layernorm(x, weight, bias, eps); }
  void init() const { fill(weight, 1.0), fill(bias, 0.0); }

  Param weight, bias;
  double eps;
};

}  // namespace qfm
