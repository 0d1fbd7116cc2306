// Losses: scalars (shape (1)) in the accumulation type of their input.
#pragma once
#include "engine/autograd.h"

namespace qfm {

// A loss (1) whose kernel gave d loss / d x at once: the backward only scales that by the upstream gradient.
Var record_loss(const char* name, const Tensor& loss, const Var& x, const Tensor& grad);

// d = prediction - target, of equal shapes; no gradient to the target.
//   y = mean of d^2 / (2 beta) where |d| < beta, else |d| - beta / 2; d prediction = dy clamp(d / beta, -1, 1) / n
Var smooth_l1(const Var& prediction, const Tensor& target, double beta = 1.0);

// The negative log likelihood of a Gaussian with the variance v = exp(log_variance), each row weighted by v^beta, which has
// no gradient (beta-NLL, Seitzer et al. 2022). mean, log_variance, target (B). Without the constant log(2 pi) / 2.
//   d = mean - target; y = mean over rows of v^beta (d^2 / v + log v) / 2
//   d mean = dy v^beta d / (v B); d log_variance = dy v^beta (1 - d^2 / v) / (2 B)
Var beta_nll(const Var& mean, const Var& log_variance, const Tensor& target, double beta);

// logits (B, classes), ids (B) I32 on the CPU. Throws Error for an id outside [0, classes).
//   y = mean over rows of -log softmax(logits)[id]; d logits = dy (softmax(logits) - [id]) / B
Var cross_entropy(const Var& logits, const Tensor& ids);

}  // namespace qfm
