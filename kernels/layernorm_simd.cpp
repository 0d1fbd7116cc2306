#include "kernels/simd.h"

namespace qfm::QFM_ISA {

// The mean is corrected by the deviations' own mean, which is what rounding lost in the first sum; the
// variance is that of the deviations.
template <class T>
void layernorm_forward(T* y, float* mean, float* rstd, const T* x, const T* w, const T* b, int64_t rows,
                       int64_t cols, float eps) {
  const float share = 1.0f / static_cast<float>(cols);
  for (int64_t i = 0; i < rows; ++i, x += cols, y += cols) {
    vf sum = zero();
    for_vectors(cols, [&](int64_t j, auto part) { sum = sum + load(x + j, part); });
    const float rough = reduce_add(sum) * share;
    const vf shift = broadcast(rough);
    vf first_power = zero(), second_power = zero();
    for_vectors(cols, [&](int64_t j, auto part) {
      const vf d = kept(load(x + j, part) - shift, part);
      first_power = first_power + d;
      second_power = fma(d, d, second_power);
    });
    const float rest = reduce_add(first_power) * share;
    const vf variance = broadcast(reduce_add(second_power) * share - rest * rest);
    const vf r = broadcast(1.0f) / sqrt(max(zero(), variance) + broadcast(eps));
    const vf m = broadcast(rough + rest);
    for_vectors(cols, [&](int64_t j, auto part) {
      const vf h = (load(x + j, part) - m) * r;
      store(y + j, fma(h, load(w + j, part), load(b + j, part)), part);
    });
    store(mean + i, m, 1);
    store(rstd + i, r, 1);
  }
}

template <class T>
void layernorm_backward(T* dx, float* dw, float* db, const T* dy, const T* x, const T* w, const float* mean,
                        const float* rstd, int64_t rows, int64_t cols) {
  const float share = 1.0f / static_cast<float>(cols);
  for (int64_t i = 0; i < rows; ++i, x += cols, dy += cols, dx += cols) {
    const vf m = broadcast(mean[i]), r = broadcast(rstd[i]);
    vf sum_g = zero(), sum_gh = zero();
    for_vectors(cols, [&](int64_t j, auto part) {
      const vf h = (load(x + j, part) - m) * r, d = load(dy + j, part), g = d * load(w + j, part);
      sum_g = sum_g + g;
      sum_gh = fma(g, h, sum_gh);
      store(dw + j, fma(d, h, load(dw + j, part)), part);
      store(db + j, d + load(db + j, part), part);
    });
    const vf mean_g = broadcast(reduce_add(sum_g) * share), mean_gh = broadcast(reduce_add(sum_gh) * share);
    for_vectors(cols, [&](int64_t j, auto part) {
      const vf h = (load(x + j, part) - m) * r, g = load(dy + j, part) * load(w + j, part);
      store(dx + j, r * fnma(h, mean_gh, g - mean_g), part);
    });
  }
}

#define QFM_INSTANTIATE(T)                                                                            \
  template void layernorm_forward(T*, float*, float*, const T*, const T*, const T*, int64_t, int64_t, \
                                  float);                                                             \
  template void layernorm_backward(T*, float*, float*, const T*, const T*, const T*, const float*,    \
                                   const float*, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
