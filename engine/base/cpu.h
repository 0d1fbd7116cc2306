// Which CPU code serves: the plain C++ reference, or the vectorised path that this processor can run.
#pragma once
#include <string>

namespace qfm {

// Whether the vectorised paths are built in (CMakeLists.txt). Code names them under `if constexpr (has_vector_code)` alone.
#ifdef QFM_SIMD
inline constexpr bool has_vector_code = true;
#else
inline constexpr bool has_vector_code = false;
#endif

enum class CpuIsa { Plain, Avx2, Avx512 };

// Dot products of short numbers beside the path's own multiplications, each with those before it.
//   Int8: vpdpbusd (AVX-VNNI with Avx2, AVX512-VNNI with Avx512);  Bf16: vdpbf16ps (AVX512-BF16), with Avx512
enum class CpuDot { None, Int8, Bf16 };

struct CpuPath {
  CpuIsa isa = CpuIsa::Plain;
  CpuDot dot = CpuDot::None;
  friend bool operator==(const CpuPath&, const CpuPath&) = default;
};

// Chosen once, the best by CPUID; QFM_CPU names another, as name_of below. Bf16 only where it also is the faster:
// some processors have vdpbf16ps at half the rate of F32's products, so both are timed, for some microseconds. Throws
// Error for an unknown name, or one that this processor does not have.
CpuIsa cpu_path();
CpuDot cpu_dot();
inline CpuPath cpu() { return {cpu_path(), cpu_dot()}; }
// For tests: forces a path from now on.
void set_cpu_path(CpuIsa isa, CpuDot dot = CpuDot::None);
bool available(CpuIsa isa, CpuDot dot = CpuDot::None);
const char* name_of(CpuIsa isa);
std::string name_of(CpuPath path);  // plain, avx2, avx2+int8, avx512, avx512+int8, avx512+bf16
CpuPath path_of(const std::string& name);  // throws as above

}  // namespace qfm
