// Weights laid out once for the CPU's fast products, kept beside their data: a product finds them by its weight.
#pragma once
#include <memory>

#include "engine/base/cpu.h"
#include "engine/tensor.h"

namespace qfm {

struct PackedWeight {
  Tensor data;
  CpuPath path;  // whose layout it is
};

// w (N, ...), the rest folded to K; on the CPU. It must not change until the packed form is forgotten.
void pack_weight(const Tensor& w);
// The packed form of a weight of these elements; null where there is none.
const PackedWeight* packed_weight(const Tensor& w);

}  // namespace qfm
