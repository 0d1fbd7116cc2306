#include "engine/base/cpu.h"

#include <cstdlib>
#include <cstring>

#include "engine/base/error.h"

namespace qfm {
namespace {

CpuIsa best_simd() {
  if (available(CpuIsa::Avx512)) return CpuIsa::Avx512;
  if (available(CpuIsa::Avx2)) return CpuIsa::Avx2;
  return CpuIsa::Plain;
}

CpuIsa choose() {
  const char* wanted = std::getenv("QFM_CPU");
  if (!wanted || !*wanted) return best_simd();
  for (CpuIsa p : {CpuIsa::Plain, CpuIsa::Avx2, CpuIsa::Avx512})
    if (std::strcmp(wanted, name_of(p)) == 0) {
      QFM_CHECK(available(p), "QFM_CPU=", wanted, ": not available on this processor");
      return p;
    }
  QFM_FAIL("QFM_CPU=", wanted, ": expected plain, avx2 or avx512");
}

CpuIsa& current() {
  static CpuIsa path = choose();
  return path;
}

}  // namespace

bool available(CpuIsa path) {
  __builtin_cpu_init();
  switch (path) {
    case CpuIsa::Plain:
      return true;
    case CpuIsa::Avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case CpuIsa::Avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
  return false;
}

const char* name_of(CpuIsa path) {
  switch (path) {
    case CpuIsa::Plain:
      return "plain";
    case CpuIsa::Avx2:
      return "avx2";
    case CpuIsa::Avx512:
      return "avx512";
  }
  return "?";
}

CpuIsa cpu_path() { return current(); }
void set_cpu_path(CpuIsa path) {
  QFM_CHECK(available(path), "cpu path ", name_of(path), ": not available");
  current() = path;
}

}  // namespace qfm
