#include "models/pretrained.h"

#include "engine/load_params.h"
#include "models/registry.h"
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

ModelInfo backbone_info(const std::string& path) {
  const TensorFile file = open_weights(path);
  return file.metadata().count("qfm") ? read_model_info(file) : ModelInfo(timm_config(file));
}

LoadedModel load_backbone(const std::string& path, Device device, std::optional<DType> compute) {
  const TensorFile file = open_weights(path);
  const auto foreign = file.metadata().count("qfm") ? std::nullopt : find_timm_config(file);
  if (!foreign) return load_model(path, device, compute, false);
  const DType dtype = compute.value_or(usual_dtype(device));
  LoadedModel loaded{nullptr, ModelInfo(*foreign), dtype};
  loaded.model = std::make_unique<Model>(loaded.info.config, device, dtype, false);
  loaded.model->params.initialise(0);
  load_pretrained(*loaded.model, path);
  loaded.model->params.pack();
  return loaded;
}

}  // namespace qfm
