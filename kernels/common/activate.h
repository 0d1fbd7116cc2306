// activation(v) and its derivative, of kernels/pointwise/functions.h: for double, float, CUDA and vectors.
#pragma once
#include "kernels/common/activation.h"
#include "kernels/pointwise/functions.h"

namespace qfm {

// The function of an Activation, but for None.
template <Activation a>
struct ActivationFunction;
template <>
struct ActivationFunction<Activation::Relu> {
  using type = fn::Relu;
};
template <>
struct ActivationFunction<Activation::Relu6> {
  using type = fn::Relu6;
};
template <>
struct ActivationFunction<Activation::Silu> {
  using type = fn::Silu;
};

template <Activation a, class N>
QFM_HD inline N activate(N v) {
  if constexpr (a == Activation::None) return v;
  else return typename ActivationFunction<a>::type()(v);
}

// The same of an activation that is known when it runs.
template <class N>
QFM_HD inline N activate(Activation a, N v) {
  if (a == Activation::Relu) return activate<Activation::Relu>(v);
  if (a == Activation::Relu6) return activate<Activation::Relu6>(v);
  if (a == Activation::Silu) return activate<Activation::Silu>(v);
  return v;
}

// dy activation'(v); 0 at the kinks, as in PyTorch.
template <Activation a, class N>
QFM_HD inline N activate_backward(N dy, N v) {
  if constexpr (a == Activation::None) return dy;
  else return typename ActivationFunction<a>::type().derivative(dy, v);
}

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
