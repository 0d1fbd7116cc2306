// LayerScale with the residual, on the CPU; on CUDA it is inside residual_layernorm (layernorm.h).
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

// y = residual + gamma x; x, y, residual (rows, cols), gamma (cols).
template <class T>
void layerscale_forward(Cpu, T* y, const T* x, const T* gamma, const T* residual, int64_t rows, int64_t cols);
// dx = gamma dy; dgamma[j] = sum over rows of dy x (overwritten).
template <class T>
void layerscale_backward(Cpu, T* dx, acc<T>* dgamma, const T* dy, const T* x, const T* gamma, int64_t rows, int64_t cols);

}  // namespace qfm
