#include "train/metrics/metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "engine/base/threads.h"

namespace qfm {
namespace {

void check_finite(const char* list, Values values) {
  for (size_t i = 0; i < values.size(); ++i)
    QFM_CHECK(std::isfinite(values[i]), list, " with index ", i, " is ",
              std::isnan(values[i]) ? "not a number" : "infinite");
}

void check_pairs(Values prediction, Values label) {
  QFM_CHECK(prediction.size() == label.size(), "metrics: ", prediction.size(), " predictions, ", label.size(),
            " labels");
  QFM_CHECK(prediction.size() >= 2, "metrics: ", prediction.size(), " pairs, at least 2 are needed");
  check_finite("prediction", prediction);
  check_finite("label", label);
}

bool constant(Values values) {
  return std::all_of(values.begin(), values.end(), [&](double v) { return v == values[0]; });
}

// Brings the largest magnitude into [1, 2) by a power of two, which loses nothing and keeps squares in range.
void normalise(std::vector<double>& values) {
  double most = 0;
  for (double v : values) most = std::max(most, std::fabs(v));
  if (most == 0) return;
  const int exponent = std::ilogb(most);
  for (double& v : values) v = std::scalbn(v, -exponent);
}

// values - mean, to a scale of its own. The mean is corrected once by the mean of what it leaves.
std::vector<double> centred(Values values) {
  std::vector<double> d(values.begin(), values.end());
  normalise(d);
  for (int pass = 0; pass < 2; ++pass) {
    const double mean = std::accumulate(d.begin(), d.end(), 0.0) / static_cast<double>(d.size());
    for (double& v : d) v -= mean;
  }
  normalise(d);
  return d;
}

double pearson(Values a, Values b) {
  const auto x = centred(a), y = centred(b);
  double xx = 0, yy = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) xx += x[i] * x[i], yy += y[i] * y[i], xy += x[i] * y[i];
  return std::clamp(xy / (std::sqrt(xx) * std::sqrt(yy)), -1.0, 1.0);
}

// Ranks from 1; equal values share the mean of their ranks.
std::vector<double> average_ranks(Values values) {
  std::vector<std::pair<double, size_t>> order(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = {values[i], i};
  std::sort(order.begin(), order.end());
  std::vector<double> ranks(values.size());
  for (size_t first = 0, last; first < order.size(); first = last) {
    for (last = first; last < order.size() && order[last].first == order[first].first;) ++last;
    for (size_t i = first; i < last; ++i)
      ranks[order[i].second] = 0.5 * static_cast<double>(first + 1 + last);
  }
  return ranks;
}

// Pairs (i < j) with equal elements, of a list whose equal elements are neighbours.
template <class T>
int64_t tied_pairs(const std::vector<T>& list) {
  int64_t pairs = 0, run = 0;
  for (size_t i = 1; i < list.size(); ++i) {
    run = list[i] == list[i - 1] ? run + 1 : 0;
    pairs += run;
  }
  return pairs;
}

// Sorts by merging and returns the number of pairs (i < j) with list[i] > list[j].
int64_t sort_counting_inversions(std::vector<double>& list) {
  std::vector<double> merged(list.size());
  int64_t inversions = 0;
  for (size_t width = 1; width < list.size(); width *= 2) {
    for (size_t begin = 0; begin < list.size(); begin += 2 * width) {
      const size_t middle = std::min(begin + width, list.size()), end = std::min(middle + width, list.size());
      size_t left = begin, right = middle;
      for (size_t out = begin; out < end; ++out) {
        if (left < middle && (right == end || list[left] <= list[right])) {
          merged[out] = list[left++];
        } else {
          inversions += static_cast<int64_t>(middle - left);
          merged[out] = list[right++];
        }
      }
    }
    list.swap(merged);
  }
  return inversions;
}

double tau_b(Values a, Values b) {
  std::vector<std::pair<double, double>> pairs(a.size());
  for (size_t i = 0; i < a.size(); ++i) pairs[i] = {a[i], b[i]};
  std::sort(pairs.begin(), pairs.end());
  std::vector<double> x(a.size()), y(a.size());
  for (size_t i = 0; i < a.size(); ++i) x[i] = pairs[i].first, y[i] = pairs[i].second;
  const auto n = static_cast<int64_t>(a.size());
  const int64_t discordant = sort_counting_inversions(y), all = n * (n - 1) / 2;
  const int64_t tied_x = tied_pairs(x), tied_y = tied_pairs(y), tied_both = tied_pairs(pairs);
  const int64_t difference = all - tied_x - tied_y + tied_both - 2 * discordant;  // concordant - discordant
  const double tau = static_cast<double>(difference) / std::sqrt(static_cast<double>(all - tied_x)) /
                     std::sqrt(static_cast<double>(all - tied_y));
  return std::clamp(tau, -1.0, 1.0);
}

std::optional<double> correlation(Values prediction, Values label, double (*of)(Values, Values)) {
  check_pairs(prediction, label);
  if (constant(prediction) || constant(label)) return std::nullopt;
  return of(prediction, label);
}

// Between neighbours in order, as numpy.quantile does.
double quantile(const std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

std::optional<double> srcc(Values prediction, Values label) {
  return correlation(prediction, label,
                     [](Values a, Values b) { return pearson(average_ranks(a), average_ranks(b)); });
}

std::optional<double> plcc(Values prediction, Values label) {
  return correlation(prediction, label, pearson);
}

std::optional<double> krcc(Values prediction, Values label) { return correlation(prediction, label, tau_b); }

double rmse(Values prediction, Values label) {
  check_pairs(prediction, label);
  double sum = 0;
  for (size_t i = 0; i < label.size(); ++i) sum += (prediction[i] - label[i]) * (prediction[i] - label[i]);
  return std::sqrt(sum / static_cast<double>(label.size()));
}

std::optional<Interval> percentile_interval(const std::vector<std::optional<double>>& drawn,
                                            double confidence) {
  std::vector<double> defined;
  for (const auto& value : drawn)
    if (value) defined.push_back(*value);
  if (2 * defined.size() < drawn.size() || defined.empty()) return std::nullopt;
  std::sort(defined.begin(), defined.end());
  return Interval{quantile(defined, (1 - confidence) / 2), quantile(defined, (1 + confidence) / 2)};
}

std::optional<Interval> bootstrap(Values prediction, Values label, const Statistic& statistic, uint64_t seed,
                                  double confidence, int resamples) {
  check_pairs(prediction, label);
  QFM_CHECK(confidence > 0 && confidence < 1, "bootstrap: confidence is ", confidence,
            ", expected inside 0..1");
  QFM_CHECK(resamples >= 1, "bootstrap: ", resamples, " resamples");
  const auto n = static_cast<uint32_t>(prediction.size());
  std::vector<std::optional<double>> drawn(static_cast<size_t>(resamples));
  parallel_for(resamples, [&](int64_t r) {
    Rng rng(seed, "bootstrap", 0, static_cast<uint32_t>(r));
    std::vector<double> x(n), y(n);
    for (uint32_t i = 0; i < n; ++i) {
      const uint32_t from = rng.below(n);
      x[i] = prediction[from], y[i] = label[from];
    }
    drawn[static_cast<size_t>(r)] = statistic(x, y);
  });
  return percentile_interval(drawn, confidence);
}

Agreement agreement(Values prediction, Values label, uint64_t seed) {
  return {static_cast<int64_t>(prediction.size()),
          srcc(prediction, label),
          plcc(prediction, label),
          krcc(prediction, label),
          rmse(prediction, label),
          fit_logistic(prediction, label),
          bootstrap(prediction, label, srcc, seed),
          bootstrap(prediction, label, plcc, seed)};
}

}  // namespace qfm
