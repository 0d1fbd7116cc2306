#include "engine/base/cpu.h"

#ifdef QFM_SIMD
#include <cpuid.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <initializer_list>

#include "engine/base/error.h"

namespace qfm {
namespace {

// Best first, but for the last: whether Bf16 is better is measured.
constexpr CpuPath kPaths[] = {{CpuIsa::Avx512, CpuDot::Int8}, {CpuIsa::Avx512, CpuDot::None}, {CpuIsa::Avx2, CpuDot::Int8},
                              {CpuIsa::Avx2, CpuDot::None},   {CpuIsa::Plain, CpuDot::None},  {CpuIsa::Avx512, CpuDot::Bf16}};

#ifdef QFM_SIMD

// Seconds of a loop over independent sums; written in assembler, as this file is compiled for any processor.
#define QFM_EIGHT(op, a, b, c, d, e, f, g, h)                                                                    \
  op " %%zmm30, %%zmm31, %%zmm" #a "\n" op " %%zmm30, %%zmm31, %%zmm" #b "\n" op " %%zmm30, %%zmm31, %%zmm" #c   \
     "\n" op " %%zmm30, %%zmm31, %%zmm" #d "\n" op " %%zmm30, %%zmm31, %%zmm" #e "\n" op                         \
     " %%zmm30, %%zmm31, %%zmm" #f "\n" op " %%zmm30, %%zmm31, %%zmm" #g "\n" op " %%zmm30, %%zmm31, %%zmm" #h "\n"
#define QFM_SECONDS_OF(name, op)                                                                                     \
  double name() {                                                                                                    \
    int rounds = 200;                                                                                                \
    const auto start = std::chrono::steady_clock::now();                                                             \
    asm volatile("vpxorq %%zmm30, %%zmm30, %%zmm30\nvpxorq %%zmm31, %%zmm31, %%zmm31\n1:\n" QFM_EIGHT(               \
                     op, 0, 1, 2, 3, 4, 5, 6, 7) QFM_EIGHT(op, 8, 9, 10, 11, 12, 13, 14, 15)                         \
                     QFM_EIGHT(op, 16, 17, 18, 19, 20, 21, 22, 23) "decl %0\njnz 1b\nvzeroupper\n"                   \
                 : "+r"(rounds)                                                                                      \
                 :                                                                                                   \
                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
                   "xmm12", "xmm13", "xmm14", "xmm15", "cc");                                                        \
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();                          \
  }
QFM_SECONDS_OF(seconds_of_fma, "vfmadd231ps")
QFM_SECONDS_OF(seconds_of_dot, "vdpbf16ps")
#undef QFM_SECONDS_OF
#undef QFM_EIGHT

// A dot product is two multiplications. Measured rates lie at half or twice that of F32's products, the bar between.
bool bf16_is_faster() {
  double fma = 1, dot = 1;
  for (int i = 0; i < 5; ++i) fma = std::min(fma, seconds_of_fma()), dot = std::min(dot, seconds_of_dot());
  return 2 * fma > 1.2 * dot;
}

// Not a name that every compiler's __builtin_cpu_supports knows.
bool avx_vnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
}

#else

bool bf16_is_faster() { return false; }

#endif

CpuPath best() {
  if (available(CpuIsa::Avx512, CpuDot::Bf16) && bf16_is_faster()) return {CpuIsa::Avx512, CpuDot::Bf16};
  for (const CpuPath& p : kPaths)
    if (available(p.isa, p.dot)) return p;
  return {};
}

CpuPath choose() {
  const char* wanted = std::getenv("QFM_CPU");
  return wanted && *wanted ? path_of(wanted) : best();
}

CpuPath& current() {
  static CpuPath path = choose();
  return path;
}

}  // namespace

#ifdef QFM_SIMD
bool available(CpuIsa isa, CpuDot dot) {
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  switch (isa) {
    case CpuIsa::Plain:
      return dot == CpuDot::None;
    case CpuIsa::Avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             (dot == CpuDot::None || (dot == CpuDot::Int8 && avx_vnni()));
    case CpuIsa::Avx512:
      return avx512 && (dot == CpuDot::None || __builtin_cpu_supports("avx512vnni")) &&
             (dot != CpuDot::Bf16 || __builtin_cpu_supports("avx512bf16"));
  }
  return false;
}
#else
bool available(CpuIsa isa, CpuDot dot) { return isa == CpuIsa::Plain && dot == CpuDot::None; }
#endif

const char* name_of(CpuIsa isa) {
  return isa == CpuIsa::Plain ? "plain" : isa == CpuIsa::Avx2 ? "avx2" : "avx512";
}
std::string name_of(CpuPath path) {
  return std::string(name_of(path.isa)) + (path.dot == CpuDot::None ? "" : path.dot == CpuDot::Int8 ? "+int8" : "+bf16");
}

CpuPath path_of(const std::string& name) {
  std::string names;
  for (const CpuPath& p : kPaths) {
    if (name_of(p) == name) {
      QFM_CHECK(available(p.isa, p.dot), "QFM_CPU=", name, ": not available on this processor or in this build");
      return p;
    }
    names += (names.empty() ? "" : ", ") + name_of(p);
  }
  QFM_FAIL("QFM_CPU=", name, ": expected one of ", names);
}

CpuIsa cpu_path() { return current().isa; }
CpuDot cpu_dot() { return current().dot; }
void set_cpu_path(CpuIsa isa, CpuDot dot) {
  QFM_CHECK(available(isa, dot), "cpu path ", name_of(CpuPath{isa, dot}), ": not available");
  current() = {isa, dot};
}

}  // namespace qfm
