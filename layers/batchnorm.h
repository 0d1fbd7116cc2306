// Batch normalisation, alone and behind a convolution.
#pragma once
#include "engine/autograd.h"
#include "engine/scope.h"
#include "layers/conv2d.h"

namespace qfm {

// weight, bias (C); running_mean, running_var (C), buffers. Where its set is training (ParamSet::training) and its
// weight is trainable it uses the batch's statistics and moves the running ones; else it uses the running ones.
struct BatchNorm {
  BatchNorm() = default;
  BatchNorm(const Scope& scope, int64_t channels, double eps = 1e-5, double momentum = 0.1);
  // activation(norm(x) + residual), x (B, C, H, W), residual like it or empty. Throws Error for another number of
  // channels, and in training for one element a channel.
  Var operator()(const Var& x, Activation activation = Activation::None, const Var& residual = {}) const;
  bool uses_batch() const;

  Param weight, bias;
  Buffer running_mean, running_var;
  double eps = 1e-5, momentum = 0.1;
  Training training;
};

// activation(norm(conv(x)) + residual). Where the running statistics serve and no gradient is wanted, all of it is one
// convolution: the normalisation is its scale and shift.
//   y = f(norm(conv(x)) + residual); as the three
Var conv_norm(const Conv2d& conv, const BatchNorm& norm, const Var& x, Activation activation,
              const Var& residual = {});

// The differentiable functions behind it. By the batch's statistics (running_mean, running_var: F32, moved in place;
// empty: left alone).
//   y = f(v), v = weight h + bias + residual, h = (x - mean) / sqrt(var + eps) per channel;
//     dx = weight rstd (dv - mean(dv) - h mean(dv h)), dv = dy f'(v)
Var batchnorm(const Var& x, const Var& weight, const Var& bias, const Tensor& running_mean,
              const Tensor& running_var, double eps, double momentum,
              Activation activation = Activation::None, const Var& residual = {});
// By fixed ones.
//   y = f(v), v = weight h + bias + residual, h by the running statistics; dx = weight rstd dv, dv = dy f'(v)
Var batchnorm_fixed(const Var& x, const Var& weight, const Var& bias, const Tensor& running_mean,
                    const Tensor& running_var, double eps, Activation activation = Activation::None,
                    const Var& residual = {});

}  // namespace qfm
