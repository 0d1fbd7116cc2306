#include "train/metrics/interval_metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/base/error.h"

namespace qfm {
namespace {

using Photos = std::vector<CalibratedPhoto>;

void check(const Photos& photos) {
  QFM_CHECK(photos.size() >= 2, "intervals: ", photos.size(), " photos, at least 2 are needed");
}

double error_of(const CalibratedPhoto& p) { return std::abs(p.label - p.score); }

// |error| of photos, in the order in which they are left out.
std::vector<double> errors_by(const Photos& photos, double (*key)(const CalibratedPhoto&)) {
  std::vector<size_t> order(photos.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(photos[a]) > key(photos[b]); });
  std::vector<double> errors;
  for (const size_t i : order) errors.push_back(error_of(photos[i]));
  return errors;
}

// Mean over shares left out of the root mean square of what stays.
double mean_remaining(const std::vector<double>& errors) {
  double squares = 0, sum = 0;
  for (size_t stays = 1; stays <= errors.size(); ++stays) {
    const double e = errors[errors.size() - stays];
    squares += e * e;
    sum += std::sqrt(squares / static_cast<double>(stays));
  }
  return sum / static_cast<double>(errors.size());
}

}  // namespace

std::vector<Coverage> coverages(const Photos& photos) {
  check(photos);
  std::vector<Coverage> all{{"", 0, 0, 0}};
  const auto add = [](Coverage& c, const CalibratedPhoto& p) {
    ++c.n;
    c.coverage += p.label >= p.interval.low && p.label <= p.interval.high;
    c.mean_width += p.interval.high - p.interval.low;
  };
  for (const CalibratedPhoto& p : photos) {
    add(all[0], p);
    if (p.subset.empty()) continue;
    auto at = std::find_if(all.begin() + 1, all.end(), [&](const Coverage& c) { return c.subset == p.subset; });
    if (at == all.end()) at = all.insert(all.end(), {p.subset, 0, 0, 0});
    add(*at, p);
  }
  for (Coverage& c : all) c.coverage /= static_cast<double>(c.n), c.mean_width /= static_cast<double>(c.n);
  return all;
}

double constant_width(const Photos& photos) {
  check(photos);
  std::vector<double> errors;
  int64_t covered = 0;
  for (const CalibratedPhoto& p : photos) {
    errors.push_back(error_of(p));
    covered += p.label >= p.interval.low && p.label <= p.interval.high;
  }
  std::sort(errors.begin(), errors.end());
  const double h = covered == 0 ? 0 : errors[static_cast<size_t>(covered - 1)];
  double width = 0;
  for (const CalibratedPhoto& p : photos)
    width += std::max(p.score, std::clamp(p.score + h, 0.0, 100.0)) - std::min(p.score, std::clamp(p.score - h, 0.0, 100.0));
  return width / static_cast<double>(photos.size());
}

std::optional<double> error_correlation(const Photos& photos) {
  check(photos);
  std::vector<double> deviations, errors;
  for (const CalibratedPhoto& p : photos) deviations.push_back(p.deviation), errors.push_back(error_of(p));
  return srcc(deviations, errors);
}

std::optional<double> sparsification_error(const Photos& photos) {
  check(photos);
  const auto errors = errors_by(photos, error_of);
  double squares = 0;
  for (const double e : errors) squares += e * e;
  const double whole = std::sqrt(squares / static_cast<double>(errors.size()));
  if (whole == 0) return std::nullopt;
  const auto by_deviation = errors_by(photos, [](const CalibratedPhoto& p) { return p.deviation; });
  return (mean_remaining(by_deviation) - mean_remaining(errors)) / whole;
}

}  // namespace qfm
