#include "models/feature_selection.h"

#include "layers/pointwise.h"
#include "layers/reduce.h"

namespace qfm {

FeatureSelection::FeatureSelection(const Scope& scope, int64_t width)
    : norm(scope / "norm", width, 1e-6),
      fc1(scope / "fc1", width, width / 4, xavier_uniform()),
      fc2((scope / "fc2").weight("weight", {width, width / 4}, constant(0)),
          (scope / "fc2").vector("bias", {width}, constant(4))) {}

Var FeatureSelection::operator()(const Var& tokens) const {
  return sigmoid(fc2(gelu(fc1(norm(mean(tokens, {1}))))));
}

Tensor FeatureSelection::gate_at_mean() const {
  const NoGrad inference;
  const int64_t width = norm.bias.shape()[0];
  const Var gates = sigmoid(fc2(gelu(fc1(Var(norm.bias.value().reshape({1, width}))))));
  return gates.value.reshape({width}).to(cpu_device).to(DType::F32);
}

}  // namespace qfm
