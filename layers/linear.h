// Linear: y = x W^T + b, and the linear_forward building block that mlp shares.
#pragma once
#include <utility>

#include "engine/autograd.h"
#include "engine/scope.h"

namespace qfm {

// What is fused into the matrix product; empty tensors are left out. See kernels/gemm/gemm.h for the order.
struct LinearFusion {
  Tensor bias, pre_gelu, residual;
  bool gelu = false;
  bool quantised = false;  // y as quantised rows; of a w that reads them only (reads_int8)
};
// Quantised rows (kernels/pointwise/quantise.h) are a U8 tensor (..., bytes of a row). x (..., K): F32, on the CPU.
Tensor quantised(const Tensor& x);
// x (..., K), w (N, K) -> (..., N), no history. A packed w is found by itself (engine/packed_weight.h); one packed for
// INT8 takes an x of quantised rows too.
Tensor linear_forward(const Tensor& x, const Tensor& w, const LinearFusion& fusion = {});
// The gradients of a linear map, dy (..., N): dx like x; dW (N, K) and, if asked for, db (N) in the
// accumulation type. gelu_input: the product with W is followed by times GELU'(gelu_input), which is shaped
// like x.
Tensor linear_dx(const Tensor& dy, const Tensor& w, const Shape& x_shape, const Tensor& gelu_input = {});
struct LinearGrads {
  Tensor weight, bias;
};
LinearGrads linear_dw(const Tensor& dy, const Tensor& x, bool with_bias);

// x (..., K), w (N, K), b (N) or an empty Var, residual (..., N) or an empty Var. Throws Error on shapes that do not fit.
//   y = x w^T + b + residual; dx = dy w, dw = dy^T x, db = sum of dy, d residual = dy
Var linear(const Var& x, const Var& w, const Var& b = {}, const Var& residual = {});

// weight (out, in) and, unless with_bias is false, bias (out), which begins at 0.
struct Linear {
  Linear() = default;
  Linear(const Scope& scope, int64_t in, int64_t out, Init init = trunc_normal(0.02), bool with_bias = true);
  Linear(Param weight, Param bias) : weight(std::move(weight)), bias(std::move(bias)), has_bias(true) {}
  Var operator()(const Var& x, const Var& residual = {}) const;

  Param weight, bias;
  bool has_bias = false;
};

}  // namespace qfm
