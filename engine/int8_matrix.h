// A matrix in eight bits, as checkpoints and products have it (kernels/gemm/int8_weights.h).
#pragma once
#include <string>

#include "engine/safetensors.h"
#include "engine/tensor.h"

namespace qfm {

struct Int8Matrix {
  Tensor q;      // I8, shaped like the weight (N, ...)
  Tensor scale;  // (N), F32
};

// w: F32, on the CPU. Throws Error "NAME: reason" for a number that is not finite.
Int8Matrix to_int8(const Tensor& w, const std::string& name);
// w = q * scale, exactly. w: floating, on any device, shaped like q.
void copy_from_int8(const Tensor& w, const Int8Matrix& from);

// In a file: NAME, I8, and beside it NAME.scale, F32.
void add_int8(NamedTensors& tensors, const std::string& name, const Int8Matrix& m);
bool holds_int8(const TensorFile& file, const std::string& name);
// Whether `name` is the scale of an I8 tensor.
bool holds_int8_scale(const TensorFile& file, const std::string& name);
// Throws Error "PATH: NAME.scale: reason" for a scale that is missing, not F32 (N), or not one that to_int8 gives.
Int8Matrix read_int8(const TensorFile& file, const std::string& name);

}  // namespace qfm
