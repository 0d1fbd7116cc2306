// activation(v) and its derivative, written once for double, float and CUDA, and vectors of floats (simd.h).
#pragma once
#include <cmath>

#include "engine/base/dtype.h"
#include "kernels/common/activation.h"

namespace qfm::activations {

// What simd.h has for vectors. max and min give x where it is NaN.
QFM_HD inline double number(double /*x*/, double value) { return value; }
QFM_HD inline float number(float /*x*/, double value) { return static_cast<float>(value); }
QFM_HD inline double max(double low, double x) { return x < low ? low : x; }
QFM_HD inline float max(float low, float x) { return x < low ? low : x; }
QFM_HD inline double min(double high, double x) { return x > high ? high : x; }
QFM_HD inline float min(float high, float x) { return x > high ? high : x; }
QFM_HD inline double where_positive(double x, double a, double b) { return x > 0 ? a : b; }
QFM_HD inline float where_positive(float x, float a, float b) { return x > 0 ? a : b; }
QFM_HD inline double exp(double x) { return ::exp(x); }
QFM_HD inline float exp(float x) { return ::expf(x); }

template <class N>
QFM_HD inline N sigmoid(N v) {
  return number(v, 1) / (number(v, 1) + exp(number(v, 0) - v));
}

// relu v = max(0, v), relu6 v = min(6, max(0, v)), silu v = v sigmoid(v).
template <Activation a, class N>
QFM_HD inline N activate(N v) {
  if constexpr (a == Activation::Relu) return max(number(v, 0), v);
  else if constexpr (a == Activation::Relu6) return min(number(v, 6), max(number(v, 0), v));
  else if constexpr (a == Activation::Silu) return v * sigmoid(v);
  else return v;
}

// dy activation'(v); 0 at the kinks, as in PyTorch.
template <Activation a, class N>
QFM_HD inline N activate_backward(N dy, N v) {
  const N none = number(v, 0);
  if constexpr (a == Activation::Relu) {
    return where_positive(v, dy, none);
  } else if constexpr (a == Activation::Relu6) {
    return where_positive(v, where_positive(number(v, 6) - v, dy, none), none);
  } else if constexpr (a == Activation::Silu) {
    const N s = sigmoid(v);
    return dy * s * (number(v, 1) + v * (number(v, 1) - s));
  } else {
    return dy;
  }
}

}  // namespace qfm::activations

namespace qfm {

template <Activation a>
struct Activated {
  static constexpr Activation value = a;
};
// run(Activated<a>{}): the activation as a type, to choose code by.
template <class F>
inline void with_activation(Activation a, F&& run) {
  switch (a) {
    case Activation::None:
      return run(Activated<Activation::None>{});
    case Activation::Relu:
      return run(Activated<Activation::Relu>{});
    case Activation::Relu6:
      return run(Activated<Activation::Relu6>{});
    case Activation::Silu:
      return run(Activated<Activation::Silu>{});
  }
}

}  // namespace qfm
