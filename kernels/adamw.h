// AdamW (Loshchilov and Hutter 2019) over a flat buffer of parameters, as torch.optim.AdamW computes it.
//   p = p (1 - lr wd);  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   p = p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
// with g = clip * gradient.
#pragma once
#include <cstdint>

#include "engine/base/device.h"
#include "engine/base/dtype.h"

namespace qfm {

struct AdamW {
  double lr, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.05;
  int64_t step = 1;   // t, from 1
  double clip = 1.0;  // every gradient is multiplied by it
};

// master, gradient, m, v (n) in acc<T>; copy (n) gets the new values in the compute type T, and may be null
// (when master itself is what the model computes with).
template <class T>
void adamw(Cpu, AdamW rule, acc<T>* master, T* copy, acc<T>* m, acc<T>* v, const acc<T>* gradient, int64_t n);

}  // namespace qfm
