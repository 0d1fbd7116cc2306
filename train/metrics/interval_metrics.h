// How true intervals around predictions are: coverage, width, and whether the photos that are said to be uncertain are those
// with the large errors.
#pragma once
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/metrics/metrics.h"

namespace qfm {

// One photo, all on 0-100.
struct CalibratedPhoto {
  double label, score, deviation;  // deviation above 0, of the score's error as the model takes it to be
  Interval interval;
  std::string subset = {};  // empty: none
};

struct Coverage {
  std::string subset;  // empty: all photos
  int64_t n;
  double coverage;    // share of labels inside their interval
  double mean_width;
};

// Throw Error for fewer than two photos.

// All photos first, then each subset in the order of its first photo.
std::vector<Coverage> coverages(const std::vector<CalibratedPhoto>& photos);
// The mean width of score +- h, cut to 0-100, with the one h that covers as many of these labels: what an interval gains that
// knows which photos are difficult.
double constant_width(const std::vector<CalibratedPhoto>& photos);
// Spearman correlation of the deviation with |label - score|.
std::optional<double> error_correlation(const std::vector<CalibratedPhoto>& photos);
// Area under the sparsification error (Ilg et al. 2018): the photos with the largest deviations are left out, a share from 0
// towards 1, and likewise those with the largest errors; the mean over shares of the difference of the two root mean square
// errors, as a part of the whole's. 0 is perfect. nullopt where every error is 0.
std::optional<double> sparsification_error(const std::vector<CalibratedPhoto>& photos);

struct ReliabilityBin {
  double predicted, observed;  // mean probability, share
  int64_t n;                   // pairs
};
// All pairs of photos with different labels, by the probability that the one with the higher score is better, in ten bins
// from 0.5 to 1: how often its label is the higher one. above(a, b): the probability for photos a and b. Empty bins are left
// out.
template <class Above>
std::vector<ReliabilityBin> pair_reliability(const std::vector<CalibratedPhoto>& photos, const Above& above) {
  std::vector<ReliabilityBin> bins(10, {0, 0, 0});
  for (size_t i = 0; i < photos.size(); ++i)
    for (size_t k = i + 1; k < photos.size(); ++k) {
      const auto *a = &photos[i], *b = &photos[k];
      if (a->label == b->label) continue;
      if (a->score < b->score) std::swap(a, b);
      const double p = above(*a, *b);
      ReliabilityBin& bin = bins[static_cast<size_t>(std::min(9.0, std::max(0.0, (p - 0.5) * 20)))];
      bin.predicted += p, bin.observed += a->label > b->label, ++bin.n;
    }
  std::erase_if(bins, [](const ReliabilityBin& bin) { return bin.n == 0; });
  for (ReliabilityBin& bin : bins) bin.predicted /= static_cast<double>(bin.n), bin.observed /= static_cast<double>(bin.n);
  return bins;
}

}  // namespace qfm
