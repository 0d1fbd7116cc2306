#include "train/objectives/distil.h"

#include "engine/dispatch.h"
#include "kernels/matching/matching.h"
#include "layers/noise.h"
#include "layers/qfm_losses.h"
#include "layers/tokens.h"

namespace qfm {

ParamSet& Distillation::allocated(ParamSet& params, const ParamSet& like) {
  params.allocate(like.master.device(), like.compute(), true);
  return params;
}

Distillation::Map::Map(int64_t from, int64_t to, const ParamSet& student, const DistilOptions& options,
                       const AdamWRule& rule)
    : linear(params, "distil.map", from, to), optimizer(allocated(params, student), rule) {
  fill_xavier_uniform(linear.weight, options.seed), fill(linear.bias, 0.0);
  params.sync();
}

Distillation::Distillation(const QfmIqm& student, const ModelInfo& info, const DistilOptions& options,
                           const AdamWRule& rule)
    : student_(student), options_(options) {
  const ParamSet& params = student.params;
  const Device device = params.master.device();
  if (options.ema > 0) {
    averaged_ = std::make_unique<QfmIqm>(student.config, device, params.compute(), false);
    averaged_->params.master.copy_from(params.master);
    averaged_->params.sync();
  }
  if (options.w_features == 0) return;
  feature_teacher_ = averaged_.get();
  if (!feature_teacher_) {
    teacher_ = load_model(options.teacher, device, params.compute(), false);
    feature_teacher_ = teacher_.model.get();
    const ModelInfo& t = teacher_.info;
    QFM_CHECK(t.crop == info.crop && t.mean == info.mean && t.std == info.std, options.teacher,
              ": takes other crops or colours than the model in training; its features cannot be learnt");
  }
  const int64_t from = student.config.vit.width, to = feature_teacher_->config.vit.width;
  if (from != to) map_ = std::make_unique<Map>(from, to, params, options, rule);
}

Var Distillation::feature_loss(const Tensor& images, const QfmIqm::Output& student) const {
  Tensor wanted;
  {
    const NoGrad frozen;
    wanted = mean_tokens((*feature_teacher_)(images).patches).value;
  }
  const Var pooled = mean_tokens(student.patches);
  const int64_t batch = pooled.dim(0);
  // 1 / batch each, made where it is used: nothing to wait for.
  const Tensor even =
      match_weights(Tensor::zeros({batch}, DType::I32, wanted.device()), acc_of(wanted.dtype()));
  return cosine_distance(map_ ? map_->linear(pooled) : pooled, wanted, even);
}

void Distillation::update_ema(const StepState* updated) {
  if (!averaged_) return;
  const Tensor &average = averaged_->params.master, &now = student_.params.master;
  const int64_t n = average.numel();
  dispatch({"moving average", 3.0 * static_cast<double>(n), 3.0 * static_cast<double>(average.bytes())},
           average, [&](auto dev, auto t) {
             using T = decltype(t);
             if constexpr (!std::is_same_v<decltype(dev), Cpu>)
               moving_average(dev, updated, ptr<float>(average), ptr<const float>(now), options_.ema, n);
             else if constexpr (!std::is_same_v<T, bf16>)
               moving_average<T>(dev, ptr<T>(average), ptr<const T>(now), options_.ema, n);
           });
  averaged_->params.sync();
}

NamedTensors Distillation::state() const {
  NamedTensors tensors;
  if (averaged_) tensors.emplace_back("ema.master", averaged_->params.master);
  if (map_) {
    tensors.emplace_back("distil.map.master", map_->params.master);
    tensors.emplace_back("distil.map.adam_m", map_->optimizer.m);
    tensors.emplace_back("distil.map.adam_v", map_->optimizer.v);
  }
  return tensors;
}

void Distillation::restored(int64_t steps) {
  if (averaged_) averaged_->params.sync();
  if (!map_) return;
  map_->optimizer.steps = steps;
  map_->params.sync();
}

}  // namespace qfm
