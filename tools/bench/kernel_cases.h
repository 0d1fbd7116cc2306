// The kernels of kernels/, each alone, at the sizes that the model gives them.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "models/model.h"
#include "tools/cli/command.h"

namespace qfm {

struct KernelCase {
  std::string name, kernel, shape;  // "qkv.dx", the function "gemm", "1576x192x576"
  std::string note;                 // how the FLOPs are counted, where there are two ways
  double flops = 0;                 // of matrix products, by the mathematics
  double bytes = 0;                 // that must move at least once
  using Run = std::function<void(size_t turn)>;
  std::function<Run()> prepare;  // makes the buffers; a run uses set `turn` of them, modulo their number
};

// Every function of kernels/*.h at least once. cold_bytes: see ColdBuffers (tools/bench/cold_buffers.h).
std::vector<KernelCase> kernel_cases(const ModelConfig& model, int64_t batch, Placement where,
                                     int64_t cold_bytes);

}  // namespace qfm
