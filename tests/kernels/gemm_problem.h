// Matrix products with any epilogue, for tests: random operands and what is made of them.
#pragma once
#include "kernels/gemm/gemm.h"
#include "tests/kernels/numbers.h"

namespace qfm::test {

// The parts of an epilogue, in any combination; SumA for a transposed A only.
enum Part { Bias = 1, PreGelu = 2, Gelu = 4, GeluGrad = 8, Residual = 16, AllParts = 32, SumA = 32 };

template <class T>
struct Problem {
  GemmShape s;
  int parts;
  std::vector<T> a, b, bias, of, residual;
  Problem(GemmShape s, int parts)
      : s(s),
        parts(parts),
        a(random<T>("a", 0, s.m * s.k, 1)),
        b(random<T>("b", 1, s.k * s.n, 1)),
        bias(random<T>("bias", 2, s.n)),
        of(random<T>("of", 3, s.m * s.n)),
        residual(random<T>("residual", 5, s.m * s.n)) {}
  // The same numbers in another type.
  template <class From>
  explicit Problem(const Problem<From>& p)
      : s(p.s),
        parts(p.parts),
        a(converted<T>(p.a)),
        b(converted<T>(p.b)),
        bias(converted<T>(p.bias)),
        of(converted<T>(p.of)),
        residual(converted<T>(p.residual)) {}

  GemmEpilogue<T> epilogue(T* pre_gelu) const {
    GemmEpilogue<T> e;
    if (parts & Bias) e.bias = bias.data();
    if (parts & PreGelu) e.pre_gelu = pre_gelu;
    e.gelu = parts & Gelu;
    if (parts & GeluGrad) e.times_gelu_grad_of = of.data();
    if (parts & Residual) e.residual = residual.data();
    return e;
  }
};

}  // namespace qfm::test
