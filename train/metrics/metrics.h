// How well predictions agree with opinion scores.
//
// Every function takes two lists of equal length n >= 2 and throws Error for lists of other or different lengths, and
// for a NaN or infinite value (with its index). nullopt means undefined: a constant list has no correlation.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace qfm {

using Values = std::span<const double>;

// Spearman: Pearson correlation of the average ranks.
std::optional<double> srcc(Values prediction, Values label);
// Pearson; two passes, so that a large common offset does no harm.
std::optional<double> plcc(Values prediction, Values label);
// Kendall's tau-b in O(n log n) (Knight 1966).
std::optional<double> krcc(Values prediction, Values label);
// Root mean square of prediction - label, without mapping.
double rmse(Values prediction, Values label);

// The curve that the field fits before PLCC and RMSE:
// y(x) = beta2 + (beta1 - beta2) / (1 + exp(-(x - beta3) / |beta4|)).
struct LogisticFit {
  std::array<double, 4> beta;
  double residual;             // sum over the pairs of (y(prediction) - label)^2
  double rmse;                 // sqrt(residual / n)
  std::optional<double> plcc;  // between y(prediction) and label
  double operator()(double x) const;
};
// Least squares (Levenberg-Marquardt) from beta = max label, min label, mean prediction, std prediction / 4.
// nullopt for n < 5 or a constant list.
std::optional<LogisticFit> fit_logistic(Values prediction, Values label);

struct Interval {
  double low, high;
};
// Between two quantiles of resampled values; nullopt when more than half of them are undefined.
std::optional<Interval> percentile_interval(const std::vector<std::optional<double>>& drawn,
                                            double confidence);
using Statistic = std::function<std::optional<double>(Values, Values)>;
// Percentile bootstrap over pairs; the same for any number of threads. Resamples where the statistic is
// undefined are left out; nullopt when they are more than half.
std::optional<Interval> bootstrap(Values prediction, Values label, const Statistic& statistic, uint64_t seed,
                                  double confidence = 0.95, int resamples = 1000);

// All of the above at once; intervals are 95 %, 1000 resamples.
struct Agreement {
  int64_t n;
  std::optional<double> srcc, plcc, krcc;
  double rmse;
  std::optional<LogisticFit> mapped;
  std::optional<Interval> srcc_interval, plcc_interval;
};
Agreement agreement(Values prediction, Values label, uint64_t seed);

}  // namespace qfm
