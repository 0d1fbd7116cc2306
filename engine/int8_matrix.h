// A matrix in eight bits, as checkpoints and products have it (kernels/gemm/int8_weights.h).
#pragma once
#include <string>

#include "engine/tensor.h"

namespace qfm {

struct Int8Matrix {
  Tensor q;      // I8, shaped like the weight (N, ...)
  Tensor scale;  // (N), F32
};

// w: F32, on the CPU. Throws Error "NAME: reason" for a number that is not finite.
Int8Matrix to_int8(const Tensor& w, const std::string& name);
// w = q * scale, exactly. w: F32, on the CPU, shaped like q.
void copy_from_int8(const Tensor& w, const Int8Matrix& from);

}  // namespace qfm
