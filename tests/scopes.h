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
  CpuPath before = cpu_path();
  explicit PathScope(CpuPath path) { set_cpu_path(path); }
  ~PathScope() { set_cpu_path(before); }
};
struct ThreadScope {
  int before = threads();
  explicit ThreadScope(int n) { set_threads(n); }
  ~ThreadScope() { set_threads(before); }
};
// Hears what a user would be told.
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
  Deciding before = deciding();
  explicit DecidingScope(Deciding by) { set_deciding(std::move(by)); }
  ~DecidingScope() { set_deciding(before); }
};
// For promises that only our own kernels make: the same bits in a batch of another size.
struct OwnKernels : DecidingScope {
  OwnKernels() : DecidingScope({Deciding::Prefer::Own, {}, ""}) {}
};

}  // namespace qfm::test
