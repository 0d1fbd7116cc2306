// Batch normalisation, alone and behind a convolution.
#pragma once
#include "engine/autograd.h"
#include "engine/scope.h"
#include "layers/conv2d.h"

namespace qfm {

// weight, bias (C); running_mean, running_var (C), buffers. Where its set is training (ParamSet::training) and its weight is
// trainable it uses the batch's statistics and moves the running ones; else it uses the running ones.
struct BatchNorm {
  BatchNorm() = default;
  BatchNorm(const Scope& scope, int64_t channels, double eps = 1e-5, double momentum = 0.1);
  // x (B, C, H, W). Throws Error for another number of channels, and in training for one element a channel.
  Var operator()(const Var& x, Activation activation = Activation::None) const;
  bool uses_batch() const;

  Param weight, bias;
  Buffer running_mean, running_var;
  double eps = 1e-5, momentum = 0.1;
  Training training;
};

// activation(norm(conv(x)) + residual). Where the running statistics serve and no gradient is wanted, all of it is one
// convolution: the normalisation is its scale and shift.
Var conv_norm(const Conv2d& conv, const BatchNorm& norm, const Var& x, Activation activation, const Var& residual = {});

}  // namespace qfm
