// Which CPU code serves: the plain C++ reference, or the vectorised path that this processor can run.
#pragma once

namespace qfm {

enum class CpuIsa { Plain, Avx2, Avx512 };

// Chosen once: the best of Avx2 / Avx512 by CPUID, else Plain; QFM_CPU=plain|avx2|avx512 overrides. Throws
// Error for an unknown name, or one that this processor does not have.
CpuIsa cpu_path();
// For tests: forces a path from now on.
void set_cpu_path(CpuIsa path);
bool available(CpuIsa path);
const char* name_of(CpuIsa path);

}  // namespace qfm
