// The kernels of kernels/cases at the sizes that a model gives them, and buffers to time them with.
#pragma once
#include <functional>
#include <vector>

#include "kernels/cases/cases.h"
#include "models/model.h"

namespace qfm {

// Throws Error where the model is no transformer.
TransformerSizes transformer_of(const ModelConfig& model);
std::vector<KernelCase> model_cases(const ModelConfig& model, int64_t batch, DType dtype);

// Makes the arrays of a case, several times over (cold_buffers.h). What it returns runs the case on set
// `turn` of them.
using TimedRun = std::function<void(size_t turn)>;
TimedRun prepared(const KernelCase& c, Device device, int64_t cold_bytes);

// oneDNN's product of a "gemm" case, without its epilogue, on its own threads; null where the build has none
// (-DQFM_ONEDNN=ON) or the case is not F32.
TimedRun prepared_by_onednn(const KernelCase& c);

}  // namespace qfm
