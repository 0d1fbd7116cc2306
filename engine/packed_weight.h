// Weights laid out once for the CPU's fast products, kept beside their data: a product finds them by its weight.
#pragma once
#include <memory>

#include "engine/base/cpu.h"
#include "engine/int8_matrix.h"
#include "engine/tensor.h"

namespace qfm {

struct PackedWeight {
  Tensor data;
  CpuPath path;       // whose layout it is
  bool int8 = false;  // for quantised rows (kernels/gemm/gemm_int8.h), by every path
};

// w (N, ...), the rest folded to K; on the CPU. It must not change until the packed form is forgotten.
void pack_weight(const Tensor& w);
// The same for products of 8-bit numbers, of these; found by w, whatever it holds.
void pack_weight_int8(const Tensor& w, const Int8Matrix& m);
// The packed form of a weight of these elements; null where there is none.
const PackedWeight* packed_weight(const Tensor& w);
// Whether products with w, which may be empty, read quantised rows: what they read had best be made so.
bool reads_int8(const Tensor& w);

}  // namespace qfm
