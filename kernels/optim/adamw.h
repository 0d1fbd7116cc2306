// AdamW (Loshchilov and Hutter 2019) over a flat buffer of parameters, as torch.optim.AdamW computes it.
//   p = p (1 - lr wd);  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   p = p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
// with g = min(1, clip / (norm + 1e-6)) * gradient, norm the length of the whole gradient.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"
#include "kernels/optim/adamw_scalars.h"

namespace qfm {

// One update of n parameters with the factors of adamw_scalars. master, gradient, m, v (n) in acc<T>; copy
// (n) gets the new values in the compute type T, and may be null (when master itself is what the model
// computes with).
template <class T>
void adamw(Cpu, const AdamWScalars<acc<T>>& factors, acc<T>* master, T* copy, acc<T>* m, acc<T>* v,
           const acc<T>* gradient, int64_t n);

// On CUDA what changes from step to step lies in device memory, so that a step can be captured
// once and replayed.
struct StepState {
  double lr;                    // in, from the host
  int64_t step;                 // in, from the host: t of this update, from 1
  double squares;               // in: sum of the squares of the gradient
  double norm, loss;            // out
  int64_t finite;               // out; 0: passed over, no parameter and no moment has changed
  AdamWScalars<float> factors;  // between the two launches
};

// One update of all n parameters, the first `decayed` of them with weight decay, in one launch (and one of a
// single thread before it). It is passed over where loss (1) or norm is not finite. state and loss in device
// memory.
template <class T>
void adamw(Cuda, AdamWRule rule, StepState* state, const float* loss, float* master, T* copy, float* m, float* v,
           const float* gradient, int64_t n, int64_t decayed);

// The averaged student ("mean teacher") beside it: average = decay average + (1 - decay) master, n elements.
template <class T>
void moving_average(Cpu, T* average, const T* master, double decay, int64_t n);
// state in device memory: nothing changes where its update was passed over.
void moving_average(Cuda, const StepState* state, float* average, const float* master, double decay,
                    int64_t n);

}  // namespace qfm
