// From sums to rows of the result, for files compiled per instruction set.
#pragma once
#include "kernels/common/activate.h"
#include "kernels/conv/conv_pieces.h"

namespace qfm::QFM_ISA {

// The epilogue is passed by value: a copy that stores cannot change stays in registers.
template <class T>
inline void finish_run(const ConvEpilogue<T> e, int64_t channel, const float* sums, T* y, int64_t at,
                       int64_t count) {
  const vf scale = broadcast(e.scale ? e.scale[channel] : 1.0f),
           shift = broadcast(e.shift ? e.shift[channel] : 0.0f);
  for_vectors(count, [&](int64_t j, auto lanes) {
    vf v = load(sums + j, lanes);
    if (e.scale) v = v * scale;
    if (e.shift) v = v + shift;
    if (e.residual) v = v + load(e.residual + at + j, lanes);
    store(y + at + j, activate(e.activation, v), lanes);
  });
}

// One row of the result, n elements, from the sums of its phases, which are `apart`; without an epilogue.
template <class T>
inline void merge_phases(T* to, int64_t n, const float* sums, int64_t phases, int64_t apart) {
  if (phases == 2) {
    for (int64_t j = 0; j < n; j += 2 * vf::width, sums += vf::width, to += 2 * vf::width) {
      const vf a = load(sums), b = load(sums + apart);
      const int64_t left = n - j, rest = left - vf::width;
      store(to, first_pairs(a, b), static_cast<int>(smaller(left, vf::width)));
      if (rest > 0) store(to + vf::width, last_pairs(a, b), static_cast<int>(smaller(rest, vf::width)));
    }
    return;
  }
  for (int64_t j = 0; j < n; ++j) store(to + j, broadcast(sums[j % phases * apart + j / phases]), 1);
}
}  // namespace qfm::QFM_ISA
