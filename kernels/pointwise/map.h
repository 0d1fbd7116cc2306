// The first of three primitives: y = f(x0, x1, ...) element by element, inputs broadcast to y as in PyTorch. f is a
// function of functions.h. (The others: reduce/reduce.h, gather/gather.h.)
#pragma once
#include <array>
#include <cstdint>
#include <span>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"
#include "kernels/pointwise/functions.h"

namespace qfm {

inline constexpr int kMaxDims = 6;

// y is dense, of `size`; element (i0, i1, ...) of input k lies at sum of step[k][d] i_d, and a step of 0 repeats it. The
// last step of each input is 0 or 1. Dimensions are merged where that changes nothing.
template <int inputs>
struct MapSpace {
  int dims = 1;
  int64_t size[kMaxDims] = {};
  int64_t step[inputs][kMaxDims] = {};
  QFM_HD int64_t columns() const { return size[dims - 1]; }
  QFM_HD int64_t rows() const {
    int64_t n = 1;
    for (int d = 0; d + 1 < dims; ++d) n *= size[d];
    return n;
  }
};
// n elements, nothing repeated.
template <int inputs>
MapSpace<inputs> flat_space(int64_t n) {
  MapSpace<inputs> space;
  space.size[0] = n;
  for (auto& step : space.step) step[0] = 1;
  return space;
}
// Inputs of these shapes broadcast to `y`: aligned at the last dimension, of size 1 or y's (checked by the caller).
template <int inputs>
MapSpace<inputs> broadcast_space(std::span<const int64_t> y, const std::array<std::span<const int64_t>, inputs>& x);

// y may be an input that is not repeated. The reference computes in double, vector code and CUDA in float. T = float,
// bf16, double (CPU). F: every function of functions.h, Derivative of the unary ones.
template <int inputs, class F, class T>
void map(Cpu, const F& f, const MapSpace<inputs>& space, T* y, MapInputs<T, inputs> x);
template <int inputs, class F, class T>
void map(Cuda, const F& f, const MapSpace<inputs>& space, T* y, MapInputs<T, inputs> x);

// dst = src in another type: float, bf16, double (CPU) in any pair.
template <class To, class From>
void cast(Cpu, To* dst, const From* src, int64_t n);
template <class To, class From>
void cast(Cuda, To* dst, const From* src, int64_t n);

}  // namespace qfm
