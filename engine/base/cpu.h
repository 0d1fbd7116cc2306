// Which CPU code serves: the plain C++ oracle, or the vectorised path that this processor can run.
#pragma once

namespace qfm {

// Onednn = the AVX path below it, with matrix products by oneDNN (where built in).
enum class CpuIsa { Plain, Avx2, Avx512, Onednn };

// Chosen once: the best of Avx2 / Avx512 by CPUID, else Plain; QFM_CPU=plain|avx2|avx512|onednn overrides.
// oneDNN is never chosen by itself: our own matrix product keeps the same bits for every batch size and
// thread count. Throws Error for an unknown name, or one that this processor or build does not have.
CpuIsa cpu_path();
// For tests: forces a path from now on.
void set_cpu_path(CpuIsa path);
bool available(CpuIsa path);
const char* name_of(CpuIsa path);

// The vector code to run under the current path: Avx512 or Avx2 (Onednn means the best of them), or Plain.
CpuIsa simd_path();

}  // namespace qfm
