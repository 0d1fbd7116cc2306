// Settings that end with their scope.
#pragma once
#include "engine/base/cpu.h"
#include "engine/base/threads.h"

namespace qfm::test {

struct PathScope {
  CpuPath before = cpu_path();
  explicit PathScope(CpuPath path) { set_cpu_path(path); }
  ~PathScope() { set_cpu_path(before); }
};
struct ThreadScope {
  int before = threads();
  explicit ThreadScope(int n) { set_threads(n); }
  ~ThreadScope() { set_threads(before); }
};

}  // namespace qfm::test
