// Layer normalisation (Ba et al. 2016) over the last dimension.
#pragma once
#include "engine/autograd.h"
#include "engine/scope.h"

namespace qfm {

// x (..., C), w (C), b (C); h = (x - mean) / sqrt(var + eps), var biased; g = dy w.
//   y = h w + b; dx = (g - mean(g) - h mean(g h)) / sqrt(var + eps), dw = sum of dy h, db = sum of dy
// reader: the weight of the product that alone reads y. If that reads quantised rows and no graph is recorded, y is made
// so (layers/linear.h).
Var layernorm(const Var& x, const Var& w, const Var& b, double eps, const Tensor& reader = {});

// A residual stream and its normalisation in one step: sum = residual + gamma * x, y = layernorm(sum). x,
// residual (..., C), gamma (C). Without a gamma (an empty Var) sum = residual + x; without an x it is the residual
// itself, and what is saved is a pass in the backward, where both uses of the stream meet. Same values and
// gradients as the sum and layernorm in turn.
struct ResidualNorm {
  Var sum, y;
};
ResidualNorm residual_layernorm(const Var& x, const Var& gamma, const Var& residual, const Var& w,
                                const Var& b, double eps, const Tensor& reader = {});

struct LayerNorm {
  LayerNorm(const Scope& scope, int64_t width, double eps)
      : weight(scope.vector("weight", {width}, constant(1))),
        bias(scope.vector("bias", {width}, constant(0))),
        eps(eps) {}
  Var operator()(const Var& x) const { return layernorm(x, weight, bias, eps, reader_value()); }
  ResidualNorm operator()(const Var& x, const Var& gamma, const Var& residual) const {
    return residual_layernorm(x, gamma, residual, weight, bias, eps, reader_value());
  }

  // Says whose product reads the result, if one alone.
  void feeds(const Param& weight) { reader = weight; }

  Param weight, bias, reader;
  double eps;

 private:
  Tensor reader_value() const { return reader.entry() ? reader.value() : Tensor(); }
};

}  // namespace qfm
