#include "engine/base/cpu.h"

#include <cstdlib>
#include <cstring>

#include "engine/base/error.h"

namespace qfm {
namespace {

CpuPath best_simd() {
  if (available(CpuPath::Avx512)) return CpuPath::Avx512;
  if (available(CpuPath::Avx2)) return CpuPath::Avx2;
  return CpuPath::Plain;
}

CpuPath choose() {
  const char* wanted = std::getenv("QFM_CPU");
  if (!wanted || !*wanted) return best_simd();
  for (CpuPath p : {CpuPath::Plain, CpuPath::Avx2, CpuPath::Avx512, CpuPath::Onednn})
    if (std::strcmp(wanted, name_of(p)) == 0) {
      QFM_CHECK(available(p), "QFM_CPU=", wanted, ": not available on this processor or in this build");
      return p;
    }
  QFM_FAIL("QFM_CPU=", wanted, ": expected plain, avx2, avx512 or onednn");
}

CpuPath& current() {
  static CpuPath path = choose();
  return path;
}

}  // namespace

bool available(CpuPath path) {
  __builtin_cpu_init();
  switch (path) {
    case CpuPath::Plain:
      return true;
    case CpuPath::Avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case CpuPath::Avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case CpuPath::Onednn:
#ifdef QFM_WITH_ONEDNN
      return true;
#else
      return false;
#endif
  }
  return false;
}

const char* name_of(CpuPath path) {
  switch (path) {
    case CpuPath::Plain:
      return "plain";
    case CpuPath::Avx2:
      return "avx2";
    case CpuPath::Avx512:
      return "avx512";
    case CpuPath::Onednn:
      return "onednn";
  }
  return "?";
}

CpuPath cpu_path() { return current(); }
void set_cpu_path(CpuPath path) {
  QFM_CHECK(available(path), "cpu path ", name_of(path), ": not available");
  current() = path;
}
CpuPath simd_path() { return current() == CpuPath::Onednn ? best_simd() : current(); }

}  // namespace qfm
