#include "kernels/matching/noise.h"

#include <cmath>

#include "kernels/common/parallel_loops.h"

namespace qfm {

template <class A>
void match_weights(Cpu, A* weight, const int32_t* partner, int64_t n) {
  const auto matched = std::count_if(partner, partner + n, [](int32_t p) { return p >= 0; });
  for (int64_t i = 0; i < n; ++i) weight[i] = partner[i] >= 0 ? A(1) / static_cast<A>(matched) : A(0);
}

template <class T>
void draw_normal(Cpu, T* noise, const StreamName* streams, int64_t batch, int64_t inner) {
  parallel_for(batch, [=](int64_t b) {
    T* row = noise + b * inner;
    PhiloxBlock words{};
    for (int64_t i = 0; i < inner; ++i) {
      if (i % 2 == 0) words = streams[b].block(static_cast<uint32_t>(i / 2));
      row[i] = T(normal_of(words.at[i % 2 * 2], words.at[i % 2 * 2 + 1]));
    }
  });
}

template <class A>
void noise_factor(Cpu, A* factor, const A* strength, const A* size, const A* noise_norm, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    factor[i] = noise_norm[i] == 0 ? A(0) : strength[i] * size[i] / noise_norm[i];
}

template <class T>
void keep_worst_case(Cpu, acc<T>* strength, acc<T>* change, const acc<T>* trial, const T* score,
                     const T* clean, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const acc<T> moved = std::fabs(acc<T>(score[i]) - acc<T>(clean[i]));
    if (moved > change[i]) strength[i] = trial[i], change[i] = moved;
  }
}

template <class T>
void noise_variance(Cpu, acc<T>* variance, const T* noise, const acc<T>* factor, const acc<T>* weight,
                    int64_t batch, int64_t tokens, int64_t dim) {
  for_ranges(dim, 32, [=](int64_t begin, int64_t end) {
    double mean[32] = {}, sum[32] = {};
    // f(d, w, x) for every value of these channels that counts, w its share.
    const auto each = [&](auto&& f) {
      for (int64_t b = 0; b < batch; ++b) {
        if (weight[b] == 0) continue;
        const double share = to<double>(weight[b]) / static_cast<double>(tokens);
        for (int64_t t = 0; t < tokens; ++t)
          for (int64_t d = begin; d < end; ++d)
            f(d - begin, share, to<double>(factor[b]) * to<double>(noise[(b * tokens + t) * dim + d]));
      }
    };
    each([&](int64_t d, double share, double x) { mean[d] += share * x; });
    each([&](int64_t d, double share, double x) { sum[d] += share * (x - mean[d]) * (x - mean[d]); });
    for (int64_t d = begin; d < end; ++d) variance[d] = static_cast<acc<T>>(sum[d - begin]);
  });
}

#define QFM_INSTANTIATE(T)                                                                             \
  template void draw_normal(Cpu, T*, const StreamName*, int64_t, int64_t);                             \
  template void keep_worst_case(Cpu, acc<T>*, acc<T>*, const acc<T>*, const T*, const T*, int64_t);    \
  template void noise_variance(Cpu, acc<T>*, const T*, const acc<T>*, const acc<T>*, int64_t, int64_t, \
                               int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE
template void match_weights(Cpu, float*, const int32_t*, int64_t);
template void match_weights(Cpu, double*, const int32_t*, int64_t);
template void noise_factor(Cpu, float*, const float*, const float*, const float*, int64_t);
template void noise_factor(Cpu, double*, const double*, const double*, const double*, int64_t);

}  // namespace qfm
