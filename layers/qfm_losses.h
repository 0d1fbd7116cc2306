// The losses of QFM-IQM (models/METHOD.md 5, 6.2, 8): scalars (shape (1)) in the accumulation type of their
// input. Weights are constants in that type; 0 leaves an image out.
#pragma once
#include <utility>
#include <vector>

#include "engine/autograd.h"

namespace qfm {

// All (B).
//   y = sum_i weight_i SmoothL1(prediction_i - target_i); d prediction = dy weight clamp(d / beta, -1, 1)
Var weighted_smooth_l1(const Var& prediction, const Tensor& target, const Tensor& weight, double beta = 1.0);

// a, c (B, R, D) or (B, D), weight (B). No gradient to c.
//   y = sum_b weight_b mean_r (1 - cos(a_br, c_br)); da = -dy weight / R of cosine's da
Var cosine_distance(const Var& a, const Tensor& c, const Tensor& weight, double eps = 1e-8);

// gates (B, D), variances (D) without gradient; 0 where all variances are. Least where the gates are closed on the channels
// that move. h_i = g_i / mean_d g_id.
//   y = sum_d mean_i(h_id^2) v_d / sum_d v_d; dh = dy 2 h v / (B sum v), through the mean to g
Var selection_loss(const Var& gates, const Tensor& variance);

// Contrastive losses over rows h (n, D), u = h / |h|: cross-entropy of the softmax over j != i of u_i . u_j /
// temperature to
//   ntxent          the row's pair, pair[i]; mean over the rows
//   score_contrast  evenly all j != i with |score_i - score_j| <= tau; mean over the rows that have such, 0
//   if none: the targets of contrast_targets, (n, n) F64 on the CPU; score_contrast takes it there or, in the
//   accumulation type, on the device of h
//   y = mean over rows of -log softmax(u . u / temperature)[pair]; du = dy (p - target) u / temperature, both ways
Var ntxent(const Var& h, const std::vector<int64_t>& pair, double temperature);
//   y = mean over rows of -sum_j target_ij log p_ij; du = dy (p - target) u / temperature, both ways
Var score_contrast(const Var& h, const Tensor& targets, double temperature);
Tensor contrast_targets(const std::vector<double>& scores, double tau);

// Of scalars. One loss of weight 1 is returned as it is.
//   y = sum_k weight_k loss_k; d loss_k = weight_k dy
Var weighted_sum(const std::vector<std::pair<Var, double>>& losses);

}  // namespace qfm
