// Settings that end with their scope.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "engine/base/cpu.h"
#include "engine/base/notice.h"
#include "engine/base/threads.h"
#include "kernels/vendor/kernel_policy.h"

namespace qfm::test {

struct PathScope {
  CpuPath before = cpu();
  explicit PathScope(CpuIsa isa, CpuDot dot = CpuDot::None) { set_cpu_path(isa, dot); }
  explicit PathScope(CpuPath path) : PathScope(path.isa, path.dot) {}
  ~PathScope() { set_cpu_path(before.isa, before.dot); }
};
// The vector paths that this processor has, of those whose code for floats and bf16 differs; and with the plain one.
inline std::vector<CpuPath> simd_paths() {
  std::vector<CpuPath> paths;
  for (const CpuPath& p : {CpuPath{CpuIsa::Avx2}, CpuPath{CpuIsa::Avx512}, CpuPath{CpuIsa::Avx512, CpuDot::Bf16}})
    if (available(p.isa, p.dot)) paths.push_back(p);
  return paths;
}
inline std::vector<CpuPath> all_paths() {
  std::vector<CpuPath> paths = simd_paths();
  paths.push_back({});
  return paths;
}
struct ThreadScope {
  int before = threads();
  explicit ThreadScope(int n) { set_threads(n); }
  ~ThreadScope() { set_threads(before); }
};
// Collects the notices that a user would get.
struct Notes {
  std::vector<std::string> texts;
  Notes() {
    set_notices([this](const std::string& text) { texts.push_back(text); });
  }
  ~Notes() { set_notices(nullptr); }
  Notes(const Notes&) = delete;
  Notes& operator=(const Notes&) = delete;
};

struct DecidingScope {
  KernelPolicy before = policy();
  explicit DecidingScope(KernelPolicy by) { set_policy(std::move(by)); }
  ~DecidingScope() { set_policy(before); }
};
// For promises that only our own kernels make: the same bits in a batch of another size.
struct OwnKernels : DecidingScope {
  OwnKernels() : DecidingScope({KernelPolicy::Prefer::Own, {}, ""}) {}
};

}  // namespace qfm::test
