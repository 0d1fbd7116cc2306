// Numbers for tests of kernels: random ones, and ones to be overwritten.
#pragma once
#include <limits>
#include <vector>

#include "engine/base/rng.h"
#include "kernels/pointwise/map.h"
#include "tests/scopes.h"

namespace qfm::test {

using Doubles = std::vector<double>;
inline constexpr Cpu cpu;

// Through the plain casts, whatever the path: they are tested by themselves.
template <class To, class From>
std::vector<To> converted(const std::vector<From>& x) {
  PathScope plain(CpuIsa::Plain);
  std::vector<To> y(x.size());
  cast(cpu, y.data(), x.data(), static_cast<int64_t>(x.size()));
  return y;
}
template <class T>
std::vector<T> random(const char* name, uint32_t index, int64_t n, double spread = 1.5) {
  Rng rng(7, name, index);
  Doubles x(static_cast<size_t>(n));
  for (double& v : x) v = spread * static_cast<double>(rng.normal());
  return converted<T>(x);
}
// An output before the kernel runs: what it does not write is seen.
template <class T>
std::vector<T> unwritten(int64_t n) {
  return converted<T>(Doubles(static_cast<size_t>(n), std::numeric_limits<double>::quiet_NaN()));
}

}  // namespace qfm::test
