// Matrix products by oneDNN (Debian's 2.6, built for OpenMP): QFM_CPU=onednn, float only.
#pragma once
#include "kernels/gemm/gemm.h"

namespace qfm::onednn {

// Whether its post-operations cover the epilogue: not a saved pre-GELU, not GELU's derivative.
bool covers(const GemmShape& shape, const GemmEpilogue<float>& epilogue);

// gemm with b as it is stored. Throws Error when oneDNN refuses.
void gemm(const GemmShape& shape, float* c, const float* a, const float* b,
          const GemmEpilogue<float>& epilogue);

}  // namespace qfm::onednn
