// Paired tests against SciPy 1.17 (scipy.stats.wilcoxon).
#include "train/metrics/paired_tests.h"

#include <cmath>

#include "tests/support.h"

namespace qfm::test {
namespace {

TEST_CASE("wilcoxon equals SciPy, exact and with ties and zeros") {
  const std::vector<double> ten{0.012, -0.004, 0.008, 0.003, 0.015, -0.001, 0.007, 0.002, 0.009, 0.005};
  const auto exact = wilcoxon(ten);
  REQUIRE(exact);
  CHECK(exact->pairs == 10);
  CHECK(exact->positive == 50);
  CHECK(exact->exact);
  CHECK(exact->p == doctest::Approx(0.01953125).epsilon(1e-12));
  const std::vector<double> tied{0.5, -0.5, 1, 2, 2, -3, 0, 4};
  const auto normal = wilcoxon(tied);
  REQUIRE(normal);
  CHECK(normal->pairs == 7);
  CHECK_FALSE(normal->exact);
  CHECK(normal->p == doctest::Approx(0.3087603135275325).epsilon(1e-12));
  CHECK(wilcoxon(std::vector<double>{1, 2, 3, 4, 5, 6})->p == doctest::Approx(0.03125).epsilon(1e-12));
  CHECK(wilcoxon(std::vector<double>{1, -2, 3})->p == doctest::Approx(0.75).epsilon(1e-12));
  CHECK_FALSE(wilcoxon(std::vector<double>{0, 0}));
  CHECK_FALSE(wilcoxon(std::vector<double>{}));
  CHECK(contains(message_of([] { wilcoxon(std::vector<double>{1, std::nan("")}); }), "not finite"));
}

TEST_CASE("the paired bootstrap sees a real difference and no other") {
  PairedRuns runs;
  std::vector<double> label, good, poor;
  for (int i = 0; i < 200; ++i) {
    label.push_back(i);
    good.push_back(i + 10 * std::sin(1.7 * i));
    poor.push_back(i + 90 * std::sin(1.7 * i));
  }
  for (int run = 0; run < 3; ++run)
    runs.a.push_back(good), runs.b.push_back(poor), runs.labels.push_back(label);
  const auto better = paired_bootstrap(runs, srcc, 1);
  REQUIRE(better);
  CHECK(better->low > 0);
  CHECK(better->low < *srcc(good, label) - *srcc(poor, label));
  CHECK(better->high > *srcc(good, label) - *srcc(poor, label));
  runs.b = runs.a;
  const auto same = paired_bootstrap(runs, srcc, 1);
  REQUIRE(same);
  CHECK(same->low == 0);
  CHECK(same->high == 0);
  runs.b[1].pop_back();
  CHECK(contains(message_of([&] { paired_bootstrap(runs, srcc, 1); }), "run 1 has 200 and 199 photos"));
}

TEST_CASE("median") {
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 2, 3}) == 2.5);
  CHECK(std::isnan(median({})));
}

}  // namespace
}  // namespace qfm::test
