// Linear: y = x W^T + b, and the linear_forward building block that mlp shares.
#pragma once
#include <string>

#include "engine/autograd.h"
#include "engine/base/cpu.h"
#include "engine/param.h"

namespace qfm {

// A weight (N, K) laid out once for inference; belongs to the CPU path it was packed under. Empty for a
// weight on CUDA, which needs none.
struct PackedWeight {
  Tensor data;
  CpuIsa path = CpuIsa::Plain;
  static PackedWeight of(const Tensor& w);
};

// What is fused into the matrix product; empty tensors are left out. See kernels/gemm/gemm.h for the order.
struct AffineFusion {
  Tensor bias, pre_gelu, residual;
  bool gelu = false;
};
// x (..., K), w (N, K) -> (..., N), no history.
Tensor linear_forward(const Tensor& x, const Tensor& w, const AffineFusion& fusion = {},
                      const PackedWeight* packed = nullptr);
// The gradients of an linear_forward map, dy (..., N): dx like x; dW (N, K) and, if asked for, db (N) in the
// accumulation type. gelu_input: the product with W is followed by times GELU'(gelu_input), which is shaped
// like x.
Tensor linear_dx(const Tensor& dy, const Tensor& w, const Shape& x_shape, const Tensor& gelu_input = {});
struct AffineGrads {
  Tensor weight, bias;
};
AffineGrads linear_dw(const Tensor& dy, const Tensor& x, bool with_bias);
Tensor linear_db(const Tensor& dy);  // alone

// x (..., K), w (N, K), b (N) or an empty Var, residual (..., N) or an empty Var: y = x W^T + b + residual.
// Throws Error on shapes that do not fit.
Var linear(const Var& x, const Var& w, const Var& b = {}, const Var& residual = {},
           const PackedWeight* packed = nullptr);

// Parameters `name`.weight (out, in) and, unless bias is false, `name`.bias (out).
struct Linear {
  Linear() = default;
  Linear(ParamSet& params, const std::string& name, int64_t in, int64_t out, bool bias = true);
  Linear(Param weight, Param bias) : weight(std::move(weight)), bias(std::move(bias)), has_bias(true) {}
  Var operator()(const Var& x, const Var& residual = {}) const;
  // Packs the weight for inference. It must not change afterwards.
  void freeze() { packed = PackedWeight::of(weight.value()); }
  const PackedWeight* packed_or_null() const { return packed.data.empty() ? nullptr : &packed; }

  Param weight, bias;
  bool has_bias = false;
  PackedWeight packed;
};

}  // namespace qfm
