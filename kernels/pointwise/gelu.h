// GELU, the erf form: y = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2. dx = dy (Phi(x) + x phi(x)).
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

template <class T>
void gelu_forward(Cpu, T* y, const T* x, int64_t n);
template <class T>
void gelu_forward(Cuda, T* y, const T* x, int64_t n);
template <class T>
void gelu_backward(Cpu, T* dx, const T* dy, const T* x, int64_t n);
template <class T>
void gelu_backward(Cuda, T* dx, const T* dy, const T* x, int64_t n);

// One value, in double: the definition.
double gelu(double x);
double gelu_grad(double x);

}  // namespace qfm
