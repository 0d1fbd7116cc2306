// Semantic noise on the features that enter the decoder (models/METHOD.md 4.3, our reconstruction).
#pragma once
#include "engine/autograd.h"

namespace qfm {

// patches, noise (B, N, D), factor (B) in the accumulation type. No gradient to noise and factor.
//   y = patches + factor noise; d patches = dy
Var perturb(const Var& patches, const Tensor& noise, const Tensor& factor);

// ---- the pieces of it, without history ----
// B values in the accumulation type of the features, unless stated otherwise.

// 1 / (number of partners) where partner (B, I32) is not negative, else 0.
Tensor match_weights(const Tensor& partner, DType accumulation);
// Frobenius norm of each image of x (B, ...).
Tensor image_norms(const Tensor& x);
// strength |P_b| / |noise_b|, 0 where there is no noise.
Tensor noise_factor(const Tensor& strength, const Tensor& norms, const Tensor& noise_norms);
// Tokens of image from[b] of x (M, N, D) in the order[b]: (B, N, D), zeros where from[b] < 0. from (B), order
// (B, N), I32.
Tensor gather_tokens(const Tensor& x, const Tensor& from, const Tensor& order);
// y[to[b]] = x[b] of x (B, ...) and y (M, ...), nothing where to[b] < 0; to (B), I64.
void put_rows(const Tensor& y, const Tensor& x, const Tensor& to);
// Where a trial moves the score further than any before, it is kept. score, clean (B) in the features' dtype.
void keep_worst_case(const Tensor& strength, const Tensor& change, const Tensor& trial, const Tensor& score,
                     const Tensor& clean);
// Biased variance of factor_b noise_b in each channel over tokens and weighted images: (D).
Tensor noise_variance(const Tensor& noise, const Tensor& factor, const Tensor& weight);

}  // namespace qfm
