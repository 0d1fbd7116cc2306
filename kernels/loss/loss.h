// A loss with its gradient, mean over n elements, computed in one pass.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

// d = prediction - target: loss = mean of (d^2 / (2 beta) if |d| < beta, else |d| - beta / 2);
// grad = (d / beta, or sign d) / n. `loss` is one acc<T>, `grad` (n); fixed order of summation.
template <class T>
void smooth_l1(Cpu, acc<T>* loss, T* grad, const T* prediction, const T* target, double beta, int64_t n);
template <class T>
void smooth_l1(Cuda, acc<T>* loss, T* grad, const T* prediction, const T* target, double beta, int64_t n);

}  // namespace qfm
