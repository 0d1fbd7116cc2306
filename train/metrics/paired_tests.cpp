#include "train/metrics/paired_tests.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "engine/base/threads.h"

namespace qfm {
namespace {

constexpr int64_t kExactPairs = 50;

struct Ranks {
  std::vector<double> of;
  double ties = 0;  // sum of t^3 - t over groups of t equal values
};

Ranks average_ranks(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t i, size_t j) { return values[i] < values[j]; });
  Ranks ranks{std::vector<double>(values.size())};
  for (size_t begin = 0, end; begin < order.size(); begin = end) {
    for (end = begin + 1; end < order.size() && values[order[end]] == values[order[begin]];) ++end;
    const auto count = static_cast<double>(end - begin);
    for (size_t i = begin; i < end; ++i) ranks.of[order[i]] = 0.5 * static_cast<double>(begin + 1 + end);
    ranks.ties += count * count * count - count;
  }
  return ranks;
}

// The share of the 2^n sign patterns of the ranks 1 .. n whose positive ranks sum to at most `sum`.
double share_at_most(int64_t n, double sum) {
  const auto most = static_cast<size_t>(n * (n + 1) / 2);
  std::vector<double> patterns(most + 1, 0.0);  // patterns[s]: share with sum s
  patterns[0] = 1;
  for (int64_t rank = 1; rank <= n; ++rank)
    for (size_t s = most + 1; s-- > 0;)
      patterns[s] = 0.5 * (patterns[s] +
                           (s >= static_cast<size_t>(rank) ? patterns[s - static_cast<size_t>(rank)] : 0));
  double share = 0;
  for (size_t s = 0; s <= most && static_cast<double>(s) <= sum; ++s) share += patterns[s];
  return share;
}

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

std::optional<WilcoxonTest> wilcoxon(std::span<const double> differences) {
  std::vector<double> sizes;
  std::vector<bool> positive;
  for (double d : differences) {
    QFM_CHECK(std::isfinite(d), "paired test: a difference is not finite");
    if (d != 0) sizes.push_back(std::fabs(d)), positive.push_back(d > 0);
  }
  if (sizes.empty()) return std::nullopt;
  const Ranks ranks = average_ranks(sizes);
  const auto n = static_cast<double>(sizes.size());
  double sum = 0;
  for (size_t i = 0; i < sizes.size(); ++i) sum += positive[i] ? ranks.of[i] : 0;
  WilcoxonTest test{static_cast<int64_t>(sizes.size()), sum, 1, false};
  const double all = n * (n + 1) / 2, smaller = std::min(sum, all - sum);
  test.exact = ranks.ties == 0 && test.pairs <= kExactPairs;
  if (test.exact) {
    test.p = std::min(1.0, 2 * share_at_most(test.pairs, smaller));
  } else {
    const double variance = n * (n + 1) * (2 * n + 1) / 24 - ranks.ties / 48;
    const double z = std::max(0.0, std::fabs(sum - all / 2) - 0.5) / std::sqrt(variance);
    test.p = std::erfc(z / std::sqrt(2.0));
  }
  return test;
}

std::optional<Interval> paired_bootstrap(const PairedRuns& runs, const Statistic& statistic, uint64_t seed,
                                         int resamples) {
  const size_t pairs = runs.a.size();
  QFM_CHECK(pairs > 0 && runs.b.size() == pairs && runs.labels.size() == pairs, "paired bootstrap: ", pairs,
            " runs against ", runs.b.size());
  for (size_t i = 0; i < pairs; ++i)
    QFM_CHECK(runs.a[i].size() >= 2 && runs.a[i].size() == runs.b[i].size() &&
                  runs.a[i].size() == runs.labels[i].size(),
              "paired bootstrap: run ", i, " has ", runs.a[i].size(), " and ", runs.b[i].size(), " photos");
  std::vector<std::optional<double>> medians(static_cast<size_t>(resamples));
  parallel_for(resamples, [&](int64_t r) {
    std::vector<double> differences;
    for (size_t i = 0; i < pairs; ++i) {
      const size_t n = runs.a[i].size();
      // Runs on the same number of photos share the draw: they were tested on the same ones.
      Rng rng(seed, "paired bootstrap", static_cast<uint32_t>(r));
      std::vector<double> a(n), b(n), labels(n);
      for (size_t k = 0; k < n; ++k) {
        const uint32_t j = rng.below(static_cast<uint32_t>(n));
        a[k] = runs.a[i][j], b[k] = runs.b[i][j], labels[k] = runs.labels[i][j];
      }
      const auto of_a = statistic(a, labels), of_b = statistic(b, labels);
      if (of_a && of_b) differences.push_back(*of_a - *of_b);
    }
    if (differences.size() == pairs) medians[static_cast<size_t>(r)] = median(std::move(differences));
  });
  return percentile_interval(medians, 0.95);
}

}  // namespace qfm
