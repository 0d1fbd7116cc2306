#include "models/model.h"

#include "layers/activations.h"

namespace qfm {

Model::Model(const ModelConfig& c) : config(c), backbone(c.backbone->make(params)) {
  if (c.select) select.emplace(Scope(params) / "select", c.features().width);
  head = c.head->make(params, c.features());
}

Model::Output Model::operator()(const Var& images) const {
  Output out;
  out.features = (*backbone)(images);
  if (select) {
    out.gate = (*select)(out.features.tokens);
    out.features.pooled = gate(out.features.pooled, out.gate), out.features.tokens = gate(out.features.tokens, out.gate);
  }
  out.scores = (*head)(out.features);
  return out;
}

}  // namespace qfm
