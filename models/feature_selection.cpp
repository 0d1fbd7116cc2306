#include "models/feature_selection.h"

#include "layers/activations.h"
#include "layers/tokens.h"

namespace qfm {

FeatureSelection::FeatureSelection(ParamSet& params, int64_t width)
    : norm(params, "select.norm", width, 1e-6),
      fc1(params, "select.fc1", width, width / 4),
      fc2(params, "select.fc2", width / 4, width) {}

Var FeatureSelection::operator()(const Var& patches) const {
  return sigmoid(fc2(gelu(fc1(norm(mean_tokens(patches))))));
}

Tensor FeatureSelection::gate_at_mean() const {
  const NoGrad inference;
  const int64_t width = norm.bias.shape()[0];
  const Var gates = sigmoid(fc2(gelu(fc1(Var(norm.bias.value().reshape({1, width}))))));
  return gates.value.reshape({width}).to(cpu_device).to(DType::F32);
}

void FeatureSelection::init(uint64_t seed) {
  norm.init();
  fill_xavier_uniform(fc1.weight, seed), fill(fc1.bias, 0.0);
  fill(fc2.weight, 0.0), fill(fc2.bias, 4.0);
}

void FeatureSelection::freeze() { fc1.freeze(), fc2.freeze(); }

}  // namespace qfm
