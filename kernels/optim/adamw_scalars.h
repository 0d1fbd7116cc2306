// The factors of one AdamW step, the same for every parameter; see adamw.h.
#pragma once
#include <cmath>
#include <cstdint>

#include "engine/base/dtype.h"

namespace qfm {

// What holds for a whole run.
struct AdamWRule {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.05;
  double clip = 5.0;  // largest norm of the gradient; 0: no clipping
};

template <class A>
struct AdamWScalars {
  A keep;  // 1 - lr wd
  A clip;
  A rate1;         // 1 - b1
  A beta2, rate2;  // rate2 = 1 - b2
  A step;          // lr / (1 - b1^t)
  A root;          // sqrt(1 - b2^t)
  A eps;
};

// step: t, from 1. factor: what every gradient is multiplied by.
template <class A>
QFM_HD AdamWScalars<A> adamw_scalars(const AdamWRule& rule, double lr, int64_t step, double factor) {
  const auto t = static_cast<double>(step);
  return {.keep = A(1 - lr * rule.weight_decay),
          .clip = A(factor),
          .rate1 = A(1 - rule.beta1),
          .beta2 = A(rule.beta2),
          .rate2 = A(1 - rule.beta2),
          .step = A(lr / (1 - ::pow(rule.beta1, t))),
          .root = A(::sqrt(1 - ::pow(rule.beta2, t))),
          .eps = A(rule.eps)};
}

// What the gradient is multiplied by so that its norm is at most rule.clip.
QFM_HD inline double clip_factor(const AdamWRule& rule, double norm) {
  if (rule.clip <= 0) return 1;
  const double factor = rule.clip / (norm + 1e-6);
  return factor < 1 ? factor : 1;
}

}  // namespace qfm
