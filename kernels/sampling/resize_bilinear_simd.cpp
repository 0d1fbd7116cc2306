#include "kernels/sampling/lanes.h"
#include "kernels/sampling/resize_taps.h"

namespace qfm::QFM_ISA {
namespace {

// f(pick), pick(k) = the elements p[at[i] + k] for places at[0 .. width) that ascend: by a permutation of two vectors
// where they hold all of them, else gathered.
template <class F>
void with_places(const float* p, const int32_t* at, F&& f) {
  const vi relative = load(at) - broadcast(at[0]);
  const float* base = p + at[0];
  if (at[vf::width - 1] - at[0] < 2 * vf::width)
    f([=](int64_t k) { return pick_of(load(base + k), load(base + k + vf::width), relative); });
  else f([=](int64_t k) { return pick(base + k, relative); });
}

}  // namespace

template <class T>
void add_rows(float* line, const T* x, const float* weights, int64_t rows, int64_t cols) {
  if (rows == 2) {
    const vf upper = broadcast(weights[0]), lower = broadcast(weights[1]);
    for_vectors(cols, [&](int64_t j, auto part) {
      store(line + j, fma(lower, load(x + cols + j, part), upper * load(x + j, part)));
    });
    return;
  }
  for_vectors(cols, [&](int64_t j, auto part) {
    vf sum = zero();
    for (int64_t i = 0; i < rows; ++i) sum = fma(broadcast(weights[i]), load(x + i * cols + j, part), sum);
    store(line + j, sum);
  });
}

template <class T>
void take_columns(T* y, const float* line, const ResizeTaps<float>& t) {
  const float *first = t.weight, *second = t.weight + t.stride;
  if (t.taps == 2)
    return for_vectors(t.out, [&](int64_t j, auto part) {
      with_places(line, t.first + j, [&](auto pick_at) {
        store(y + j, fma(load(second + j), pick_at(1), load(first + j) * pick_at(0)), part);
      });
    });
  for_vectors(t.out, [&](int64_t j, auto part) {
    with_places(line, t.first + j, [&](auto pick_at) {
      vf sum = load(first + j) * pick_at(0);
      for (int64_t k = 1; k < t.taps; ++k) sum = fma(load(first + k * t.stride + j), pick_at(k), sum);
      store(y + j, sum, part);
    });
  });
}

#define QFM_INSTANTIATE(T)                                                  \
  template void add_rows(float*, const T*, const float*, int64_t, int64_t); \
  template void take_columns(T*, const float*, const ResizeTaps<float>&);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
