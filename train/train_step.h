// One update: forward, losses, backward, clipping, AdamW.
#pragma once
#include "models/qfm_iqm.h"
#include "train/optimizer.h"

namespace qfm {

struct StepResult {
  double loss;       // SmoothL1 before the update
  double grad_norm;  // before clipping
};
// Forward, backward, clip, update. images (B, 3, H, W) and labels (B), F32 on the CPU. Throws Error when the
// loss or the norm is not finite, OutOfMemory when memory ends: no parameter has then changed.
StepResult train_step(QfmIqm& model, Optimizer& optimizer, const Tensor& images, const Tensor& labels,
                      double lr);

}  // namespace qfm
