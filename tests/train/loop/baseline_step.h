// The update that TrainStep makes of the baseline, written out.
#pragma once
#include "layers/pointwise.h"
#include "layers/loss.h"
#include "models/model.h"
#include "train/optim/optimizer.h"

namespace qfm::test {

// The baseline (DEIQT) on images (B, 3, H, W) and labels (B): SmoothL1 alone.
inline StepResult baseline_step(Model& model, Optimizer& optimizer, const Tensor& images, const Tensor& labels, double lr) {
  const DType full = model.params.master.dtype();
  model.params.zero_grad();
  const Device device = model.params.master.device();
  const Var score = cast(model(images.to(model.params.compute()).to(device)).scores.score, full);
  const Var loss = smooth_l1(score, labels.to(full).to(device));
  backward(loss);
  return optimizer.step(lr, loss.value);
}

}  // namespace qfm::test
