// What functions.h needs of a number, for double and float; common/simd.h has the same for a vector of floats.
#pragma once
#include <cmath>

#include "engine/base/dtype.h"

namespace qfm::fn {

// A constant of x's type.
QFM_HD inline double number(double /*x*/, double value) { return value; }
QFM_HD inline float number(float /*x*/, double value) { return static_cast<float>(value); }
// The larger and the smaller one; x where it is NaN.
QFM_HD inline double max(double low, double x) { return x < low ? low : x; }
QFM_HD inline float max(float low, float x) { return x < low ? low : x; }
QFM_HD inline double min(double high, double x) { return x > high ? high : x; }
QFM_HD inline float min(float high, float x) { return x > high ? high : x; }
// a where x > 0, else b: also where x is NaN.
QFM_HD inline double where_positive(double x, double a, double b) { return x > 0 ? a : b; }
QFM_HD inline float where_positive(float x, float a, float b) { return x > 0 ? a : b; }

QFM_HD inline double exp(double x) { return ::exp(x); }
QFM_HD inline double log(double x) { return ::log(x); }
QFM_HD inline double sqrt(double x) { return ::sqrt(x); }
QFM_HD inline double tanh(double x) { return ::tanh(x); }
QFM_HD inline double erf(double x) { return ::erf(x); }
QFM_HD inline float exp(float x) { return ::expf(x); }
QFM_HD inline float log(float x) { return ::logf(x); }
QFM_HD inline float sqrt(float x) { return ::sqrtf(x); }
QFM_HD inline float tanh(float x) { return ::tanhf(x); }
QFM_HD inline float erf(float x) { return ::erff(x); }

// Phi(x), the normal distribution function. erfc keeps the digits of its lower tail.
QFM_HD inline double normal_cdf(double x) { return 0.5 * ::erfc(-x / 1.4142135623730951); }
// Absolute error a few 1e-7: erff is good to two units in the last place, and 1 + erf loses the digits of the far lower
// tail, as the CPU's vector code does.
QFM_HD inline float normal_cdf(float x) { return ::fmaf(0.5f, ::erff(x * 0.707106781f), 0.5f); }

// x Phi(x), the erf form of GELU, and its derivative Phi(x) + x phi(x). Phi is 0 below -5.5 to float's precision; held
// there, minus infinity gives 0 and not NaN; phi(20) is 0 in float. NaN stays NaN.
QFM_HD inline double gelu(double x) { return x * normal_cdf(x); }
QFM_HD inline double gelu_grad(double x) { return normal_cdf(x) + x * (::exp(-0.5 * x * x) / 2.5066282746310002); }
QFM_HD inline float gelu(float x) { return ::fmaxf(x, -5.5f) * normal_cdf(x); }
QFM_HD inline float gelu_grad(float x) {
  const float held = ::fminf(::fmaxf(x, -20.0f), 20.0f);
  return ::fmaf(held, ::expf(-0.5f * held * held) * 0.398942280f, normal_cdf(x));
}

}  // namespace qfm::fn
