#include "kernels/sampling/lanes.h"
#include "kernels/sampling/resize_columns.h"

// Columns are picked by permutations within two vectors, where a vector of columns spans no more, else gathered.
namespace qfm::QFM_ISA {
namespace {

// f(where p[at[0]] lies, at - at[0], whether those are below twice the width) for places at[0 .. width) that ascend.
template <class F>
void with_place(const float* p, const int32_t* at, F&& f) {
  const vi relative = load(at) - broadcast(at[0]);
  if (at[vf::width - 1] - at[0] < 2 * vf::width)
    f([base = p + at[0], relative](int64_t k) { return pick_near(base + k, relative); });
  else f([base = p + at[0], relative](int64_t k) { return pick(base + k, relative); });
}

}  // namespace

template <class T>
void resize_row(T* y, const T* upper, const T* lower, float weight, const ResizeColumns<float>& columns,
                float* line) {
  const vf share = broadcast(weight);
  for_vectors(columns.in, [&](int64_t c, auto part) {
    const vf a = load(upper + c, part);
    store(line + c, fma(share, load(lower + c, part) - a, a));
  });
  line[columns.in] = line[columns.in - 1];  // the next of the last, weighing 0
  for_vectors(columns.out, [&](int64_t j, auto part) {
    with_place(line, columns.low + j, [&](auto pick_at) {
      const vf left = pick_at(0), right = pick_at(1);
      store(y + j, fma(load(columns.weight + j), right - left, left), part);
    });
  });
}

template <class T>
void resize_row_backward(T* dx, const T* dy, const float* weights, int64_t rows,
                         const ResizeColumnsBackward<float>& columns, float* line) {
  for_vectors(columns.out, [&](int64_t j, auto part) {
    vf sum = zero();
    for (int64_t i = 0; i < rows; ++i)
      sum = fma(broadcast(weights[i]), load(dy + i * columns.out + j, part), sum);
    store(line + j, sum);
  });
  for (int64_t k = 0; k < columns.taps; ++k) line[columns.out + k] = 0;  // what weighs 0
  for_vectors(columns.in, [&](int64_t c, auto part) {
    with_place(line, columns.first + c, [&](auto pick_at) {
      vf sum = zero();
      for (int64_t k = 0; k < columns.taps; ++k)
        sum = fma(load(columns.weight + k * columns.stride + c), pick_at(k), sum);
      store(dx + c, sum, part);
    });
  });
}

#define QFM_INSTANTIATE(T)                                                                      \
  template void resize_row(T*, const T*, const T*, float, const ResizeColumns<float>&, float*); \
  template void resize_row_backward(T*, const T*, const float*, int64_t,                        \
                                    const ResizeColumnsBackward<float>&, float*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
