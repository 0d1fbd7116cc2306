// GELU of one value in a CUDA kernel; the maths is in gelu.h. Absolute error a few 1e-7: erff is good to two
// units in the last place, and 1 + erf loses the digits of the far lower tail, as the CPU's vector code does.
#pragma once
#include "engine/cuda/launch.h"

namespace qfm {

// Phi(x)
__device__ inline float normal_cdf(float x) { return fmaf(0.5f, erff(x * 0.707106781f), 0.5f); }

// Phi is 0 below -5.5 to float's precision; held there, minus infinity gives 0 and not NaN. NaN stays NaN.
__device__ inline float gelu(float x) { return fmaxf(x, -5.5f) * normal_cdf(x); }

// Phi(x) + x phi(x); phi(20) is 0 in float, so holding x there keeps infinity times 0 out.
__device__ inline float gelu_grad(float x) {
  const float held = fminf(fmaxf(x, -20.0f), 20.0f);
  const float density = expf(-0.5f * held * held) * 0.398942280f;
  return fmaf(held, density, normal_cdf(x));
}

}  // namespace qfm
