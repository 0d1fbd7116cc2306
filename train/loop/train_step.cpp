#include "train/loop/train_step.h"

#include "engine/dispatch.h"
#include "kernels/pointwise/elementwise.h"
#include "kernels/vendor/vendor_case.h"
#include "layers/activations.h"
#include "layers/linear.h"
#include "layers/loss.h"
#include "layers/noise.h"
#include "layers/qfm_losses.h"
#include "layers/tokens.h"
#include "models/feature_selection.h"

namespace qfm {
namespace {

Tensor ready(const Tensor& x, DType dtype, const ParamSet& params) {
  return x.to(dtype).to(params.master.device());
}
// The batch's images on the CPU.
Tensor images_of(const Batch& batch, DType dtype) {
  const Tensor& pixels = batch.pixels;
  const Tensor images({pixels.dim(0), 3, pixels.dim(1), pixels.dim(2)}, dtype);
  cut_crops(images, batch.sources(pixels.data<uint8_t>()).data(), batch.norm);
  return images;
}
// Scores and labels meet in the accumulation type: in bf16 a label of 71.3 would be one of 71.5.
Tensor ready_labels(const Tensor& labels, const ParamSet& params) {
  return ready(labels, params.master.dtype(), params);
}
Var full(const Var& x) { return cast(x, acc_of(x.value.dtype())); }

// Backward, clipping and the update, from the loss of gradients that were zero.
StepResult update(const Var& loss, Optimizer& optimizer, double lr) {
  backward(loss);
  return optimizer.step(lr, loss.value);
}

// sum += x, elements of the accumulation type.
void add_to(const Tensor& sum, const Tensor& x) {
  dispatch({"gate sum"}, sum, [&](auto dev, auto t) {
    using T = decltype(t);
    add<T>(dev, ptr<T>(sum), ptr<const T>(sum), ptr<const T>(x), sum.numel());
  });
}

MatchBatch match_batch(const Batch& batch, const std::vector<int64_t>& references) {
  MatchBatch keys;
  const auto labels = batch.labels.span<float>();
  for (size_t i = 0; i < batch.photos.size(); ++i) {
    const auto photo = static_cast<size_t>(batch.photos[i]);
    keys.score.push_back(labels[i] / 100);
    keys.image.push_back(batch.photos[i]);
    keys.reference.push_back(photo < references.size() ? references[photo] : -1);
    keys.sample.push_back(batch.samples[i]);
  }
  return keys;
}

}  // namespace

StepResult train_step(QfmIqm& model, Optimizer& optimizer, const Tensor& images, const Tensor& labels,
                      double lr) {
  model.params.zero_grad();
  const Var score = full(model(ready(images, model.params.compute(), model.params)).score);
  return update(smooth_l1(score, ready_labels(labels, model.params)), optimizer, lr);
}

TrainStep::TrainStep(QfmIqm& model, Optimizer& optimizer, QfmOptions options, Distillation* distillation)
    : model_(model),
      optimizer_(optimizer),
      options_(std::move(options)),
      distillation_(distillation),
      gate_count_(Tensor::zeros({1}, DType::I64)) {
  const ParamSet& params = model.params;
  const VitConfig& vit = model.config.vit;
  if (options_.match)
    memory_.emplace(*options_.match, options_.batch, vit.patches(), vit.width, params.compute(),
                    params.master.device());
  if (model.select) gate_sum_ = Tensor::zeros({vit.width}, params.master.dtype(), params.master.device());
  one_ = Tensor::from(std::vector<float>{1}, {1}).to(params.master.dtype()).to(params.master.device());
  if (params.master.device() != cpu_device) uploader_ = std::make_unique<BatchUploader>(params.compute());
}

StepResult TrainStep::operator()(const Batch& batch, uint32_t epoch, double lr,
                                 const std::function<void()>& meanwhile) {
  Optimizer* const map = distillation_ ? distillation_->map_optimizer() : nullptr;
  optimizer_.set_rate(lr);
  if (map) map->set_rate(lr);
  ensure_plan({batch.pixels.shape(), batch.labelled, memory_ && epoch > 0});
  if (uploader_) {
    if (uploader_->empty()) upload(batch, epoch);
    QFM_CHECK(staged_epoch_ == epoch, "step: staged for epoch ", staged_epoch_, ", not ", epoch);
    compute_on_cuda();
  } else {
    forward_backward(images_of(batch, model_.params.compute()), inputs_of(batch, epoch));
  }
  if (memory_) memory_->enqueue(match_batch(batch, options_.references));
  if (uploader_ && meanwhile) meanwhile();
  if (model_.select) gate_count_.span<int64_t>()[0] += key_.pixels[0];
  if (map) map->finish();
  return optimizer_.finish();
}

void TrainStep::upload(const Batch& batch, uint32_t epoch) {
  if (!uploader_) return;
  uploader_->put(batch, inputs_of(batch, epoch));
  staged_epoch_ = epoch;
}

HostInputs TrainStep::inputs_of(const Batch& batch, uint32_t epoch) const {
  HostInputs inputs{batch.labels, {}, {}};
  if (options_.w_contrast > 0) {
    std::vector<double> scores;
    for (float label : batch.labels.span<float>()) scores.push_back(label / 100.0);
    inputs.contrast = contrast_targets(scores, options_.contrast_tau).to(acc_of(model_.params.compute()));
  }
  if (memory_) inputs.match = memory_->inputs(match_batch(batch, options_.references), epoch);
  return inputs;
}

// What all steps of a key share.
void TrainStep::ensure_plan(const StepKey& key) {
  if (key == key_) return;
  graph_.reset();
  planned_ = false;
  const int64_t rows = key.pixels[0];
  const auto mean_over = [&](int64_t begin, int64_t end) {
    std::vector<float> weight(static_cast<size_t>(rows));
    std::fill(weight.begin() + begin, weight.begin() + end, 1.0f / static_cast<float>(end - begin));
    return ready_labels(Tensor::from(weight, {rows}), model_.params);
  };
  const bool mixed = key.labelled < rows;
  labelled_share_ = mixed ? mean_over(0, key.labelled) : Tensor();
  pseudo_share_ = mixed ? mean_over(key.labelled, rows) : Tensor();
  key_ = key;
}

void TrainStep::forward_backward(const Tensor& images, const HostInputs& inputs) {
  Optimizer* const map = distillation_ ? distillation_->map_optimizer() : nullptr;
  model_.params.zero_grad();
  if (map) distillation_->map_params()->zero_grad();
  const QfmIqm::Output out = model_(images);
  const Var loss = loss_of(out, images, inputs);
  if (model_.select) add_to(gate_sum_, linear_db(out.gate.value));
  backward(loss, one_);
  if (map) map->update(loss.value);
  optimizer_.update(loss.value, map);
  if (distillation_) distillation_->update_ema(optimizer_.state());
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

Var TrainStep::loss_of(const QfmIqm::Output& out, const Tensor& images, const HostInputs& inputs) {
  const Tensor labels = ready_labels(inputs.labels, model_.params);
  Losses losses;
  add_scores(losses, full(out.score), labels);
  if (distillation_ && distillation_->w_features() > 0)
    losses.emplace_back(distillation_->feature_loss(images, out),
                        options_.w_distil * distillation_->w_features());
  if (memory_) {
    const auto noise = memory_->match_and_enqueue(out.patches.value, inputs.match, key_.matching);
    if (noise) add_consistency(losses, out, *noise, labels);
  }
  if (options_.w_contrast > 0)
    losses.emplace_back(
        score_contrast(mean_tokens(out.patches), inputs.contrast, options_.contrast_temperature),
        options_.w_contrast);
  return weighted_sum(losses);
}

// SmoothL1 over the labelled rows, which come first, and over the pseudo-labelled ones.
void TrainStep::add_scores(Losses& losses, const Var& scores, const Tensor& labels) const {
  if (labelled_share_.empty()) return void(losses.emplace_back(smooth_l1(scores, labels), 1));
  losses.emplace_back(weighted_smooth_l1(scores, labels, labelled_share_), 1);
  losses.emplace_back(weighted_smooth_l1(scores, labels, pseudo_share_), options_.w_distil);
}

// L_cons = mean over the matched of SmoothL1(f(P'), y) + w_feat (1 - cos(decoder(P'), decoder(P~))); L_sel.
void TrainStep::add_consistency(Losses& losses, const QfmIqm::Output& out, const SemanticNoise& noise,
                                const Tensor& labels) const {
  const Tensor factor = strongest(out, noise);
  const auto moved = model_.decoder(out.cls, perturb(out.patches, noise.tokens, factor));
  losses.emplace_back(weighted_smooth_l1(full(moved.score), labels, noise.weight), options_.w_cons);
  losses.emplace_back(cosine_distance(moved.tokens, out.tokens.value, noise.weight),
                      options_.w_cons * options_.w_feat);
  if (model_.select)
    losses.emplace_back(selection_loss(out.gate, noise_variance(noise.tokens, factor, noise.weight)),
                        options_.w_sel);
}

// The factors (B) of the noise: of the one strength, or of the trial that moves the score most.
Tensor TrainStep::strongest(const QfmIqm::Output& out, const SemanticNoise& noise) const {
  const auto factor_of = [&](const Tensor& strength) {
    return noise_factor(strength, noise.size, noise.noise_norm);
  };
  if (noise.strengths.size() == 1) return factor_of(noise.strengths[0]);
  const NoGrad trying;
  const Tensor best = noise.strengths[0].clone(),
               change = Tensor::zeros(best.shape(), best.dtype(), best.device());
  for (const Tensor& trial : noise.strengths) {
    const auto moved = model_.decoder(out.cls, perturb(out.patches, noise.tokens, factor_of(trial)));
    keep_worst_case(best, change, trial, full(moved.score).value, full(out.score).value);
  }
  return factor_of(best);
}

std::optional<MatchStatistics> TrainStep::take_match() {
  return memory_ ? memory_->take_statistics() : std::nullopt;
}

std::optional<GateStatistics> TrainStep::take_gates() {
  int64_t& count = gate_count_.span<int64_t>()[0];
  if (count == 0) return std::nullopt;
  const Tensor sum = gate_sum_.to(cpu_device).to(DType::F64);
  GateStatistics result{0, 0, sum.numel()};
  for (double s : sum.span<double>()) {
    const double mean = s / static_cast<double>(count);
    result.mean += mean / static_cast<double>(sum.numel());
    result.closed += mean < kClosedGate;
  }
  gate_sum_.fill_zero(), count = 0;
  return result;
}

NamedTensors TrainStep::state() const {
  NamedTensors tensors;
  if (memory_) tensors = memory_->state();
  if (model_.select)
    tensors.emplace_back("gate.sum", gate_sum_), tensors.emplace_back("gate.count", gate_count_);
  return tensors;
}

}  // namespace qfm
