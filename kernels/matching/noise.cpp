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

template <class T>
void keep_worst_case(Cpu, acc<T>* strength, acc<T>* change, const acc<T>* trial, const T* score,
                     const T* clean, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const acc<T> moved = std::fabs(acc<T>(score[i]) - acc<T>(clean[i]));
    if (moved > change[i]) strength[i] = trial[i], change[i] = moved;
  }
}

#define QFM_INSTANTIATE(T)                                                                             \
  template void draw_normal(Cpu, T*, const StreamName*, int64_t, int64_t);                             \
  template void keep_worst_case(Cpu, acc<T>*, acc<T>*, const acc<T>*, const T*, const T*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE
template void match_weights(Cpu, float*, const int32_t*, int64_t);
template void match_weights(Cpu, double*, const int32_t*, int64_t);

}  // namespace qfm
