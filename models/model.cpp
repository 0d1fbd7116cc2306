#include "models/model.h"

#include "layers/pointwise.h"
#include "layers/shape.h"

namespace qfm {

Model::Model(const ModelConfig& c) : config(c), backbone(c.backbone->make(params)) {
  if (c.select) select.emplace(Scope(params) / "select", c.features().width);
  head = c.head->make(params, c.features());
}

Model::Output Model::before_head(const Var& images) const {
  Output out;
  out.features = (*backbone)(images);
  if (select) {
    out.gate = (*select)(out.features.tokens);
    out.features.pooled = out.features.pooled * out.gate;
    out.features.tokens = out.features.tokens * reshape(out.gate, {out.gate.dim(0), 1, out.gate.dim(1)});
  }
  return out;
}

Model::Output Model::operator()(const Var& images) const {
  Output out = before_head(images);
  out.scores = (*head)(out.features);
  return out;
}

}  // namespace qfm
