// 2-D convolution of images (B, C, H, W).
#pragma once
#include <utility>

#include "engine/autograd.h"
#include "engine/scope.h"
#include "kernels/conv/conv2d.h"

namespace qfm {

// The windows of a square kernel, as PyTorch's stride=, padding=, dilation= give them.
struct ConvOptions {
  Window y, x;  // sizes are the weight's
  int64_t groups = 1;
  static ConvOptions square(int64_t stride, int64_t padding, int64_t groups = 1, int64_t dilation = 1) {
    const Window w{1, stride, padding, padding, dilation};
    return {w, w, groups};
  }
};

// What is fused into a convolution; empty tensors are left out. See kernels/conv/conv2d.h for the order.
struct ConvFusion {
  Tensor scale = {}, shift = {};  // (O), in the accumulation type
  Tensor residual = {};           // like the result
  Activation activation = Activation::None;
};
// x (B, C, H, W), w (O, C / groups, kh, kw) -> (B, O, H', W'), no history. Throws Error for groups that do not divide
// the channels, for a kernel larger than the padded image and for other shapes that do not fit.
Tensor conv2d_forward(const Tensor& x, const Tensor& w, const ConvOptions& options, const ConvFusion& fusion = {});

// The same with a bias b (O) or an empty Var.
//   y = sum over c, u, v of x[c, i + u, j + v] w[c, u, v] + b; dx = dy w moved back, dw = sum of dy x moved, db = sum of dy
Var conv2d(const Var& x, const Var& w, const Var& b, const ConvOptions& options);

// weight (out, in / groups, kernel, kernel), as drawn by `init`, and where with_bias a bias (out) of 0.
struct Conv2d {
  Conv2d() = default;
  Conv2d(const Scope& scope, int64_t in, int64_t out, int64_t kernel, const ConvOptions& options, Init init,
         bool with_bias = false);
  Var operator()(const Var& x) const;

  Param weight, bias;
  ConvOptions options;
  bool has_bias = false;
};

}  // namespace qfm
