// What the plain and the vector code of batch normalisation are called with: some neighbouring channels of all images.
#pragma once
#include <cstdint>

#include "kernels/common/activation.h"

namespace qfm {

// Plane c of image b begins at element (b stride + c) places of each array of images.
struct NormPlanes {
  int64_t batch, channels, stride, places;
  Activation activation;
};

// v = scale[c] (x - center[c]) + shift[c], A = acc<T>.
template <class A>
struct NormLine {
  const A *center, *scale, *shift;
};

// dx = by_dv[c] dv + by_x[c] (x - center[c]) + rest[c].
template <class A>
struct NormGradient {
  const A *by_dv, *by_x, *rest;
};

}  // namespace qfm
