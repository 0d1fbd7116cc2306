#include "kernels/common/simd.h"

// Rows are taken a few at a time: their sums are independent, so that one does not wait for another's
// latency, and dw and db are loaded once for all of them. The order of every sum is that of single rows.
namespace qfm::QFM_ISA {
namespace {

constexpr int kForwardRows = 4, kBackwardRows = 2;

// The mean is corrected by the deviations' own mean, which is what rounding lost in the first sum; the
// variance is that of the deviations.
template <int R, class T>
void forward_rows(T* y, float* mean, float* rstd, const T* x, const T* w, const T* b, int64_t cols,
                  float eps) {
  const float share = 1.0f / static_cast<float>(cols);
  vf m[R], r[R], first_power[R], second_power[R];
  for (int k = 0; k < R; ++k) m[k] = first_power[k] = second_power[k] = zero();
  for (int k = 0; k < R; ++k)
    for_vectors(cols, [&](int64_t j, auto part) { m[k] = m[k] + load(x + k * cols + j, part); });
  for (int k = 0; k < R; ++k) m[k] = broadcast(reduce_add(m[k]) * share);
  for_vectors(cols, [&](int64_t j, auto part) {
    for (int k = 0; k < R; ++k) {
      const vf d = kept(load(x + k * cols + j, part) - m[k], part);
      first_power[k] = first_power[k] + d;
      second_power[k] = fma(d, d, second_power[k]);
    }
  });
  for (int k = 0; k < R; ++k) {
    const float rest = reduce_add(first_power[k]) * share;
    const vf variance = broadcast(reduce_add(second_power[k]) * share - rest * rest);
    r[k] = broadcast(1.0f) / sqrt(max(zero(), variance) + broadcast(eps));
    m[k] = m[k] + broadcast(rest);
    store(mean + k, m[k], 1);
    store(rstd + k, r[k], 1);
  }
  for_vectors(cols, [&](int64_t j, auto part) {
    const vf gain = load(w + j, part), offset = load(b + j, part);
    for (int k = 0; k < R; ++k)
      store(y + k * cols + j, fma((load(x + k * cols + j, part) - m[k]) * r[k], gain, offset), part);
  });
}

template <int R, class T>
void backward_rows(T* dx, float* dw, float* db, const T* dy, const T* x, const T* w, const float* mean,
                   const float* rstd, int64_t cols) {
  const float share = 1.0f / static_cast<float>(cols);
  vf m[R], r[R], mean_g[R], mean_gh[R];
  for (int k = 0; k < R; ++k) {
    m[k] = broadcast(mean[k]);
    r[k] = broadcast(rstd[k]);
    mean_g[k] = mean_gh[k] = zero();
  }
  for_vectors(cols, [&](int64_t j, auto part) {
    const vf gain = load(w + j, part);
    vf sum_w = load(dw + j, part), sum_b = load(db + j, part);
    for (int k = 0; k < R; ++k) {
      const vf h = (load(x + k * cols + j, part) - m[k]) * r[k], d = load(dy + k * cols + j, part),
               g = d * gain;
      mean_g[k] = mean_g[k] + g;
      mean_gh[k] = fma(g, h, mean_gh[k]);
      sum_w = fma(d, h, sum_w);
      sum_b = sum_b + d;
    }
    store(dw + j, sum_w, part);
    store(db + j, sum_b, part);
  });
  for (int k = 0; k < R; ++k) {
    mean_g[k] = broadcast(reduce_add(mean_g[k]) * share);
    mean_gh[k] = broadcast(reduce_add(mean_gh[k]) * share);
  }
  for_vectors(cols, [&](int64_t j, auto part) {
    const vf gain = load(w + j, part);
    for (int k = 0; k < R; ++k) {
      const int64_t at = k * cols + j;
      const vf h = (load(x + at, part) - m[k]) * r[k], g = load(dy + at, part) * gain;
      store(dx + at, r[k] * fnma(h, mean_gh[k], g - mean_g[k]), part);
    }
  });
}

}  // namespace

template <class T>
void layernorm_forward(T* y, float* mean, float* rstd, const T* x, const T* w, const T* b, int64_t rows,
                       int64_t cols, float eps) {
  int64_t i = 0;
  for (; i + kForwardRows <= rows; i += kForwardRows)
    forward_rows<kForwardRows>(y + i * cols, mean + i, rstd + i, x + i * cols, w, b, cols, eps);
  for (; i < rows; ++i) forward_rows<1>(y + i * cols, mean + i, rstd + i, x + i * cols, w, b, cols, eps);
}

template <class T>
void layernorm_backward(T* dx, float* dw, float* db, const T* dy, const T* x, const T* w, const float* mean,
                        const float* rstd, int64_t rows, int64_t cols) {
  int64_t i = 0;
  for (; i + kBackwardRows <= rows; i += kBackwardRows) {
    const int64_t at = i * cols;
    backward_rows<kBackwardRows>(dx + at, dw, db, dy + at, x + at, w, mean + i, rstd + i, cols);
  }
  for (; i < rows; ++i) {
    const int64_t at = i * cols;
    backward_rows<1>(dx + at, dw, db, dy + at, x + at, w, mean + i, rstd + i, cols);
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
