#include "models/pretrained.h"

#include "engine/load_params.h"
#include "models/weight_names.h"

namespace qfm {

void load_pretrained(Model& model, const std::string& path) {
  const TensorFile file = open_weights(path);
  const std::string prefix = model.config.backbone->prefix();
  if (file.metadata().count("qfm")) {
    auto instead = model.backbone->resampled(file, prefix);
    for (const Param& p : model.params.params())
      if ((p.name().starts_with("select.") && !file.has("select.norm.weight")) ||
          (p.name().starts_with("log_var.") && !file.has("log_var.weight")))
        instead.emplace(p.name(), p.master().clone());
    load_params(
        model.params, file, "", [](const std::string&) { return false; }, instead);
  } else {
    load_params(
        model.params, file, prefix, model.config.backbone->left_out(),
        model.backbone->resampled(file, ""));
  }
}

}  // namespace qfm
