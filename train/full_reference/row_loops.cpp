#include "train/full_reference/row_loops.h"

#include "engine/base/cpu.h"

namespace qfm {

const RowLoops& row_loops() {
  if constexpr (has_vector_code) {
    if (cpu_path() == CpuIsa::Avx512) return avx512::row_loops;
    if (cpu_path() == CpuIsa::Avx2) return avx2::row_loops;
  }
  return plain::row_loops;
}

}  // namespace qfm
