// Whether one variant of a model is better than another, from pairs of runs that differ in nothing else.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "train/metrics/metrics.h"

namespace qfm {

struct WilcoxonTest {
  int64_t pairs;    // differences that are not 0
  double positive;  // sum of the ranks of the positive differences
  double p;         // two-sided
  bool exact;       // from all sign patterns; else the normal approximation with continuity correction
};
// Wilcoxon's signed-rank test that the differences lie symmetrically around 0. Zeros are dropped, equal sizes
// share their average rank. Exact without ties up to 50 pairs, else by the normal distribution (as
// scipy.stats.wilcoxon). nullopt where every difference is 0. Throws Error for a value that is not finite.
std::optional<WilcoxonTest> wilcoxon(std::span<const double> differences);

// Predictions of the same photos by the runs of two variants; [run][photo], runs paired by their position.
struct PairedRuns {
  std::vector<std::vector<double>> a, b;
  std::vector<std::vector<double>> labels;  // of the run's photos
};
// 95% percentile interval of the median over the pairs of statistic(a) - statistic(b), photos drawn anew with
// replacement, the same draw for both of a pair. nullopt where more than half of the resamples are undefined.
// Throws Error for runs of different sizes.
std::optional<Interval> paired_bootstrap(const PairedRuns& runs, const Statistic& statistic, uint64_t seed,
                                         int resamples = 1000);

// Middle value, or the mean of the two in the middle; NaN for none.
double median(std::vector<double> values);

}  // namespace qfm
