// A product's epilogue on one element, in plain C++.
#pragma once
#include "kernels/gemm/gemm.h"
#include "kernels/pointwise/number.h"

namespace qfm {

template <class T>
acc<T> finish(const GemmEpilogue<T>& e, acc<T> v, int64_t row, int64_t column, int64_t n) {
  using A = acc<T>;
  const int64_t at = row * n + column;
  if (e.bias) v += static_cast<A>(e.bias[column]);
  if (e.pre_gelu) e.pre_gelu[at] = static_cast<T>(v);
  if (e.gelu) v = static_cast<A>(fn::gelu(static_cast<double>(v)));
  if (e.times_gelu_grad_of)
    v *= static_cast<A>(fn::gelu_grad(static_cast<double>(static_cast<A>(e.times_gelu_grad_of[at]))));
  if (e.residual) v += static_cast<A>(e.residual[at]);
  return v;
}

}  // namespace qfm
