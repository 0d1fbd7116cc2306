// The pointwise function that a convolution or a batch normalisation ends with.
#pragma once
#include <cmath>

#include "engine/base/dtype.h"

namespace qfm {

enum class Activation : unsigned char { None, Relu, Relu6, Silu };

// NaN stays NaN. Not for files that are compiled per instruction set.
template <class A>
QFM_HD A activate(Activation f, A v) {
  if (f == Activation::Silu) return v / (A{1} + std::exp(-v));
  if (f != Activation::None && v < A{0}) return A{0};
  if (f == Activation::Relu6 && v > A{6}) return A{6};
  return v;
}

}  // namespace qfm
