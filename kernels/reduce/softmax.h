// Softmax over the last dimension: y = exp(x - max x) / sum. Backward: dx = y * (dy - sum(dy y)).
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

// x, y, dx, dy (rows, cols).
template <class T>
void softmax_forward(Cpu, T* y, const T* x, int64_t rows, int64_t cols);
template <class T>
void softmax_forward(Cuda, T* y, const T* x, int64_t rows, int64_t cols);
template <class T>
void softmax_backward(Cpu, T* dx, const T* dy, const T* y, int64_t rows, int64_t cols);
template <class T>
void softmax_backward(Cuda, T* dx, const T* dy, const T* y, int64_t rows, int64_t cols);

}  // namespace qfm
