// Coverage, widths and the order of errors, against figures worked out by hand and by SciPy.
#include "train/metrics/interval_metrics.h"

#include <cmath>

#include "engine/base/rng.h"
#include "tests/support.h"

using namespace qfm;
using namespace qfm::test;

namespace {

CalibratedPhoto photo(double label, double score, double deviation, double half, const char* subset = "") {
  return {label, score, deviation, {score - half, score + half}, subset};
}

}  // namespace

TEST_CASE("coverage and width, of all photos and within subsets") {
  const std::vector<CalibratedPhoto> photos{photo(50, 52, 1, 2, "b"), photo(50, 53, 1, 2, "a"), photo(40, 40, 3, 6, "b"),
                                            photo(70, 60, 4, 12)};
  const auto c = coverages(photos);
  REQUIRE(c.size() == 3);
  CHECK(c[0].n == 4);
  CHECK(c[0].coverage == 0.75);
  CHECK(c[0].mean_width == 11);
  CHECK(c[1].subset == "b");
  CHECK(c[1].coverage == 1);
  CHECK(c[2].coverage == 0);
  // Three of four labels inside: errors 0, 2, 3, 10; one width for all would be 2 * 3.
  CHECK(constant_width(photos) == 6);
  CHECK(contains(message_of([] { coverages({}); }), "at least 2 are needed"));
}

TEST_CASE("the constant width is cut to 0-100, as the intervals are") {
  std::vector<CalibratedPhoto> photos{photo(0, 4, 1, 4), photo(100, 98, 1, 2)};
  photos[0].interval.low = 0, photos[1].interval.high = 100;
  CHECK(constant_width(photos) == (4 + 4 + 2 + 4) / 2.0);
}

TEST_CASE("deviations in the order of the errors are perfect, reversed ones the worst") {
  std::vector<CalibratedPhoto> right, wrong, blind;
  for (int i = 1; i <= 50; ++i) {
    right.push_back(photo(50, 50 + i, i, 1)), wrong.push_back(photo(50, 50 + i, 60 - i, 1));
    blind.push_back(photo(50, 50, 1, 1));
  }
  CHECK(*error_correlation(right) == doctest::Approx(1));
  CHECK(*error_correlation(wrong) == doctest::Approx(-1));
  CHECK(*sparsification_error(right) == doctest::Approx(0));
  CHECK(*sparsification_error(wrong) > 0.5);
  CHECK_FALSE(sparsification_error(blind));
  CHECK_FALSE(error_correlation(blind));
  // Two photos, errors 3 and 4, left out in the wrong order: (sqrt(12.5) + 4 - sqrt(12.5) - 3) / 2 / sqrt(12.5)
  CHECK(*sparsification_error({photo(50, 53, 9, 1), photo(50, 54, 2, 1)}) == doctest::Approx(0.5 / std::sqrt(12.5)));
}

TEST_CASE("probabilities of pairs are compared with how often they come true") {
  Rng rng(5, "pairs");
  std::vector<CalibratedPhoto> photos;
  for (int i = 0; i < 400; ++i) {  // opinions that are Gaussian around the score, as the probability takes them to be
    const double score = 20 + 60 * rng.uniform();
    photos.push_back(photo(score + 8 * rng.normal(), score, 8, 1));
  }
  const auto bins = pair_reliability(photos, [](const CalibratedPhoto& a, const CalibratedPhoto& b) {
    return 0.5 * std::erfc((b.score - a.score) / (16.0));  // deviation sqrt(128), over sqrt(2)
  });
  REQUIRE(bins.size() == 10);
  int64_t pairs = 0;
  for (const ReliabilityBin& b : bins) {
    CHECK(b.observed == doctest::Approx(b.predicted).epsilon(0.06));
    pairs += b.n;
  }
  CHECK(pairs == 400 * 399 / 2);
  photos.resize(3), photos[0].label = photos[1].label = photos[2].label = 7;
  CHECK(pair_reliability(photos, [](const auto&, const auto&) { return 0.5; }).empty());  // equal opinions decide nothing
}
