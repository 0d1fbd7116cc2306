// The pointwise function that a convolution or a batch normalisation ends with; activate.h computes it.
#pragma once

namespace qfm {

enum class Activation : unsigned char { None, Relu, Relu6, Silu };

}  // namespace qfm
