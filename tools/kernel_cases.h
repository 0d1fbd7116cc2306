// The kernels of a transformer's training step, each alone, at the sizes that the model gives them.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "models/vit.h"
#include "tools/command.h"

namespace qfm {

struct KernelCase {
  std::string name, shape;  // "layernorm.backward", "1576x384"
  double flops = 0;         // of matrix products, by the mathematics
  double bytes = 0;         // that must move at least once
  using Run = std::function<void(size_t turn)>;
  std::function<Run()> prepare;  // makes the buffers; a run uses set `turn` of them, modulo their number
};

// beyond: see Rotation (tools/rotation.h).
std::vector<KernelCase> kernel_cases(const VitConfig& vit, int64_t batch, Placement where, int64_t beyond);

}  // namespace qfm
