#include "train/objectives/feature_distillation.h"

#include "layers/noise.h"
#include "layers/qfm_losses.h"
#include "layers/reduce.h"

namespace qfm {

FeatureDistillation::FeatureDistillation(const ObjectiveContext& context)
    : student_(context.model), ema_(context.options.number("ema")) {
  const Options& options = context.options;
  const double w_features = options.number("w-distil-feat");
  weight = options.number("w-distil") * w_features;
  if (ema_ > 0)
    averaged_ = std::make_unique<Model>(student_.config, context.device, context.compute, false);
  if (w_features == 0) return;
  features_of_ = averaged_.get();
  if (!features_of_) {
    const std::string& path = options.text("teacher");
    teacher_ = load_model(path, context.device, context.compute, false);
    features_of_ = teacher_.model.get();
    const ModelInfo &t = teacher_.info, &own = context.info;
    QFM_CHECK(t.crop == own.crop && t.mean == own.mean && t.std == own.std, path,
              ": takes other crops or colours than the model in training; its features cannot be learnt");
  }
  const int64_t from = student_.config.features().width, to = features_of_->config.features().width;
  if (from != to)
    projector_.emplace(Scope(context.model.params).training_only() / "distil" / "projector", from, to, xavier_uniform());
}

Var FeatureDistillation::operator()(const Step& step) {
  if (!features_of_) return {};
  Tensor wanted;
  {
    const NoGrad frozen;
    wanted = mean((*features_of_)(step.images).features.tokens, {1}).value;
  }
  const Var pooled = mean(step.out.features.tokens, {1});
  // 1 / batch each, made where it is used: nothing to wait for.
  const Tensor even = match_weights(Tensor::zeros({pooled.dim(0)}, DType::I32, wanted.device()), acc_of(wanted.dtype()));
  return cosine_distance(projector_ ? (*projector_)(pooled) : pooled, wanted, even);
}

void FeatureDistillation::started() {
  if (averaged_) averaged_->params.copy_from(student_.params);
}
void FeatureDistillation::updated(const StepState* update) {
  if (averaged_) averaged_->params.average(student_.params, ema_, update);
}
NamedTensors FeatureDistillation::state() const {
  NamedTensors tensors;
  if (averaged_)
    for (const auto& [name, tensor] : averaged_->params.saved()) tensors.emplace_back("ema." + name, tensor);
  return tensors;
}
void FeatureDistillation::restored() {
  if (averaged_) averaged_->params.sync();
}

ObjectiveKind feature_distillation() {
  return {{{"w-distil-feat", 0.0, "weight of its feature term (teacher: --ema, else --teacher)", {}, 0},
           {"ema", 0.0, "decay of averaged weights, or off", {}, 0, 1, true}},
          [](const ObjectiveContext& context, const Objectives&) -> std::unique_ptr<Objective> {
            if (context.options.number("ema") == 0 && context.options.number("w-distil-feat") == 0) return nullptr;
            return std::make_unique<FeatureDistillation>(context);
          }};
}

}  // namespace qfm
