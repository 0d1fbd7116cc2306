// The paths whose code for 8-bit numbers differs.
#pragma once
#include <doctest/doctest.h>

#include "tests/scopes.h"

namespace qfm::test {

// f() on each that this processor has.
template <class F>
void on_int8_paths(F&& f) {
  for (const CpuPath& path : {CpuPath{}, CpuPath{CpuIsa::Avx2}, CpuPath{CpuIsa::Avx512},
                              CpuPath{CpuIsa::Avx2, CpuDot::Int8}, CpuPath{CpuIsa::Avx512, CpuDot::Int8}}) {
    if (!available(path.isa, path.dot)) continue;
    PathScope scope(path);
    CAPTURE(name_of(path));
    f();
  }
}
// Whether attention has code for 8-bit numbers on the current path.
inline bool has_int8_products() { return cpu_path() == CpuIsa::Plain || cpu_dot() != CpuDot::None; }

}  // namespace qfm::test
