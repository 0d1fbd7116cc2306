#include "kernels/matching/matching.h"

#include <cmath>
#include <limits>

#include "kernels/common/parallel_loops.h"
#include "kernels/matching/match_rule.h"
#include "kernels/reduce/reduce.h"

namespace qfm {

void nearest_match(Cpu, int32_t* partner, float* cosine, const MatchKeys& queries, const MatchKeys& memory,
                   int64_t dim, MatchRule rule) {
  parallel_for(queries.n, [&](int64_t i) {
    Match best;
    for (int64_t j = 0; j < memory.n; ++j) {
      if (!is_candidate(queries, i, memory, j, rule)) continue;
      float sum = 0;
      for (int64_t d = 0; d < dim; ++d) sum = std::fmaf(queries.z[i * dim + d], memory.z[j * dim + d], sum);
      take_better(best, {sum, static_cast<int32_t>(j), memory.age[j]});
    }
    const bool found = best.at >= 0 && best.cosine <= rule.tau_s;
    partner[i] = found ? best.at : -1;
    cosine[i] = found ? best.cosine : std::numeric_limits<float>::quiet_NaN();
  });
}

template <class T>
void put_rows(Cpu, T* y, const T* x, const int64_t* to, int64_t rows, int64_t cols) {
  parallel_for(rows, [=](int64_t i) {
    if (to[i] >= 0) std::copy_n(x + i * cols, cols, y + to[i] * cols);
  });
}

void match_sums(Cpu, double* sums, const int32_t* partner, const float* cosine, const float* score,
                const float* memory_score, int64_t n) {
  sums[0] += static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) {
    if (partner[i] < 0) continue;
    sums[1] += 1;
    sums[2] += std::fabs(score[i] - memory_score[partner[i]]);
    sums[3] += cosine[i];
  }
}

template <class T>
void gather_tokens(Cpu, T* y, const T* x, const int32_t* from, const int32_t* order, int64_t batch,
                   int64_t tokens, int64_t dim) {
  parallel_for(batch, [=](int64_t b) {
    for (int64_t row = b * tokens; row < (b + 1) * tokens; ++row)
      if (from[b] < 0) std::fill_n(y + row * dim, dim, T(0.0f));
      else std::copy_n(x + (from[b] * tokens + order[row]) * dim, dim, y + row * dim);
  });
}

#define QFM_INSTANTIATE(T)                                                                                   \
  template void put_rows(Cpu, T*, const T*, const int64_t*, int64_t, int64_t);                               \
  template void gather_tokens(Cpu, T*, const T*, const int32_t*, const int32_t*, int64_t, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
