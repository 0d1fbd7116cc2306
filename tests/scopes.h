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
  CpuIsa before = cpu_path();
  explicit PathScope(CpuIsa path) { set_cpu_path(path); }
  ~PathScope() { set_cpu_path(before); }
};
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
