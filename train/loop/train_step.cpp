#include "train/loop/train_step.h"

#include <utility>

#include "engine/profile.h"
#include "kernels/vendor/vendor_case.h"
#include "layers/pointwise.h"
#include "layers/qfm_losses.h"

namespace qfm {
namespace {

// The batch's images on the CPU.
Tensor images_of(const Batch& batch, DType dtype) {
  const Tensor& pixels = batch.pixels;
  const Tensor images({pixels.dim(0), 3, pixels.dim(1), pixels.dim(2)}, dtype);
  cut_crops(images, batch.sources(pixels.data<uint8_t>()).data(), batch.norm);
  return images;
}

}  // namespace

TrainStep::TrainStep(Model& model, Optimizer& optimizer, Objectives objectives)
    : model_(model), optimizer_(optimizer), objectives_(std::move(objectives)) {
  const ParamSet& params = model.params;
  one_ = Tensor::from(std::vector<float>{1}, {1}).to(params.master.dtype()).to(params.master.device());
  if (params.master.device() != cpu_device) uploader_ = std::make_unique<BatchUploader>(params.compute());
}

StepResult TrainStep::operator()(const Batch& batch, uint32_t epoch, double lr,
                                 const std::function<void()>& meanwhile) {
  optimizer_.set_rate(lr);
  StepKey key{batch.pixels.shape(), batch.labelled};
  for (const auto& objective : objectives_) key.phases.push_back(objective->phase(epoch));
  ensure_plan(key);
  if (uploader_) {
    if (uploader_->empty()) upload(batch, epoch);
    QFM_CHECK(uploaded_epoch_ == epoch, "step: uploaded for epoch ", uploaded_epoch_, ", not ", epoch);
    compute_on_cuda();
  } else {
    forward_backward(images_of(batch, model_.params.compute()), inputs_of(batch, epoch));
  }
  for (const auto& objective : objectives_) objective->finished(batch);
  if (uploader_ && meanwhile) meanwhile();
  return optimizer_.finish();
}

void TrainStep::upload(const Batch& batch, uint32_t epoch) {
  if (!uploader_) return;
  uploader_->put(batch, inputs_of(batch, epoch));
  uploaded_epoch_ = epoch;
}

HostInputs TrainStep::inputs_of(const Batch& batch, uint32_t epoch) const {
  HostInputs inputs;
  inputs.add("labels", batch.labels);
  for (const auto& objective : objectives_) objective->prepare(batch, epoch, inputs);
  return inputs;
}

void TrainStep::ensure_plan(const StepKey& key) {
  if (key == key_) return;
  graph_.reset();
  planned_ = false;
  for (size_t i = 0; i < objectives_.size(); ++i)
    objectives_[i]->plan(key.pixels[0], key.labelled, key.phases[i]);
  key_ = key;
}

void TrainStep::forward_backward(const Tensor& images, const HostInputs& inputs) {
  model_.params.zero_grad();
  const Var loss = loss_of(images, inputs);
  backward(loss, one_);
  optimizer_.update(loss.value);
  for (const auto& objective : objectives_) objective->updated(optimizer_.state());
}

Var TrainStep::loss_of(const Tensor& images, const HostInputs& inputs) {
  ParamSet& params = model_.params;
  const TrainingScope training(params);
  const Model::Output out = model_(images);
  const Var score = cast(out.scores.score, params.master.dtype());
  const Tensor labels = inputs.at("labels").to(params.master.dtype()).to(params.master.device());
  const Step step{model_, images, out, score, labels, inputs};
  std::vector<std::pair<Var, double>> losses;
  for (const auto& objective : objectives_)
    if (Var loss = (*objective)(step); !loss.value.empty()) losses.emplace_back(std::move(loss), objective->weight);
  for (const auto& objective : objectives_) objective->forget();
  return weighted_sum(losses);
}

void TrainStep::compute_on_cuda() {
  uploader_->acquire();
  const auto work = [&] { forward_backward(uploader_->images, uploader_->inputs); };
  // In the first step of a key libraries make their plans, which a capture would refuse.
  if (!planned_ || profiling()) {
    work();
    planned_ = true;
    return;
  }
  if (graph_.empty()) {
    try {
      graph_.capture(work);
    } catch (const OutOfMemory&) {  // a graph keeps its memory to itself: more than there is
      release_cached(cuda_device);
      return work();
    } catch (const VendorError&) {  // a library failed, and now is out of the way: the next step is captured
      return work();
    }
  }
  graph_.replay();
}

nlohmann::ordered_json TrainStep::statistics() {
  nlohmann::ordered_json all = nlohmann::ordered_json::object();
  for (const auto& objective : objectives_)
    if (auto one = objective->statistics(); !one.is_null()) all[objective->name()] = std::move(one);
  return all;
}

NamedTensors TrainStep::state() const {
  NamedTensors tensors = model_.params.buffer_tensors("buffer.");
  for (const auto& objective : objectives_)
    for (auto& named : objective->state()) tensors.push_back(std::move(named));
  return tensors;
}

void TrainStep::restored() {
  for (const auto& objective : objectives_) objective->restored();
}

}  // namespace qfm
