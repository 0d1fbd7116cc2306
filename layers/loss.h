// Losses: scalars (shape (1)) in the accumulation type of their input.
#pragma once
#include "engine/autograd.h"

namespace qfm {

// A loss (1) whose kernel gave d loss / d x at once: the backward only scales that by the upstream gradient.
Var record_loss(const char* name, const Tensor& loss, const Var& x, const Tensor& grad);

// d = prediction - target, of equal shapes; no gradient to the target.
//   y = mean of d^2 / (2 beta) where |d| < beta, else |d| - beta / 2; d prediction = dy clamp(d / beta, -1, 1) / n
Var smooth_l1(const Var& prediction, const Tensor& target, double beta = 1.0);

// logits (B, classes), ids (B) I32 on the CPU. Throws Error for an id outside [0, classes).
//   y = mean over rows of -log softmax(logits)[id]; d logits = dy (softmax(logits) - [id]) / B
Var cross_entropy(const Var& logits, const Tensor& ids);

}  // namespace qfm
