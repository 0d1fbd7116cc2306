// Metrics and schedules against golden values and definitions.
#include "train/metrics/metrics.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "engine/base/threads.h"
#include "tests/support.h"
#include "train/optim/schedule.h"

using namespace qfm;
using nlohmann::json;
using test::contains, test::message_of;

namespace {

json golden_json(const std::string& name) {
  std::ifstream file(test::golden_path(name));
  REQUIRE(file);
  return json::parse(file);
}

void check_close(double value, double expected, double relative) {
  CAPTURE(value);
  CAPTURE(expected);
  CHECK(std::fabs(value - expected) <= relative * std::max(std::fabs(expected), 1e-300));
}

void check_optional(const std::optional<double>& value, const json& expected, double tolerance) {
  REQUIRE(value.has_value() == !expected.is_null());
  if (value) CHECK(std::fabs(*value - expected.get<double>()) <= tolerance);
}

std::vector<double> numbers(const json& list) {
  std::vector<double> values;
  for (const auto& v : list)
    values.push_back(v == "NaN"        ? std::nan("")
                     : v == "Infinity" ? std::numeric_limits<double>::infinity()
                                       : v.get<double>());
  return values;
}

}  // namespace

TEST_CASE("metrics equal the golden values") {
  const json golden = golden_json("metrics.json");
  const json& tolerance = golden["tolerance"];
  int mapped = 0;
  for (const auto& c : golden["cases"]) {
    CAPTURE(c["name"].get<std::string>());
    const auto x = numbers(c["prediction"]), y = numbers(c["label"]);
    if (c["expect"] == "refused") continue;
    check_optional(srcc(x, y), c["srcc"], tolerance["srcc"]);
    check_optional(plcc(x, y), c["plcc"],
                   tolerance[c["name"] == "huge_offset" ? "huge_offset_plcc" : "plcc"]);
    check_optional(krcc(x, y), c["krcc"], tolerance["krcc"]);
    check_close(rmse(x, y), c["rmse"], tolerance["rmse"]);
    const auto fit = fit_logistic(x, y);
    if (x.size() < 5) CHECK_FALSE(fit);
    if (c["mapped"].is_null()) continue;
    ++mapped;
    REQUIRE(fit);
    check_close(fit->residual, c["mapped"]["residual_sum_of_squares"], 1e-6);
    check_close(fit->rmse, c["mapped"]["rmse"], 1e-6);
    check_close(fit->plcc.value(), c["mapped"]["plcc"], 1e-6);
    double residual = 0;  // the curve in the caller's units is the one that was fitted
    for (size_t i = 0; i < x.size(); ++i) residual += ((*fit)(x[i]) - y[i]) * ((*fit)(x[i]) - y[i]);
    check_close(residual, fit->residual, 1e-9);
  }
  CHECK(mapped >= 6);
}

TEST_CASE("metrics refuse lists that say nothing") {
  const json golden = golden_json("metrics.json");
  int refused = 0;
  for (const auto& c : golden["cases"]) {
    if (c["expect"] != "refused") continue;
    ++refused;
    CAPTURE(c["name"].get<std::string>());
    const auto x = numbers(c["prediction"]), y = numbers(c["label"]);
    std::string expected = c["note"];
    if (c["name"] == "empty") expected = "0 pairs";
    if (c["name"] == "single") expected = "1 pairs";
    CHECK(contains(message_of([&] { srcc(x, y); }), expected));
    CHECK(contains(message_of([&] { plcc(x, y); }), expected));
    CHECK(contains(message_of([&] { krcc(x, y); }), expected));
    CHECK(contains(message_of([&] { rmse(x, y); }), expected));
    CHECK(contains(message_of([&] { fit_logistic(x, y); }), expected));
    CHECK(contains(message_of([&] { bootstrap(x, y, srcc, 1); }), expected));
  }
  CHECK(refused == 5);
}

TEST_CASE("correlations survive huge and tiny values") {
  const std::vector<double> x{1, 2, 3, 5, 4}, y{2, 1, 4, 5, 7};
  std::vector<double> huge = x, tiny = x;
  for (size_t i = 0; i < x.size(); ++i) huge[i] *= 0x1p1020, tiny[i] *= 0x1p-1020;
  CHECK(plcc(huge, y) == plcc(x, y));
  CHECK(plcc(tiny, y) == plcc(x, y));
  CHECK(srcc(tiny, huge) == doctest::Approx(1.0));
  CHECK_NOTHROW(fit_logistic(huge, tiny));
}

TEST_CASE("tau-b equals the definition over all pairs") {
  Rng rng(5, "tau");
  for (int trial = 0; trial < 50; ++trial) {
    const uint32_t n = 2 + rng.below(40);
    std::vector<double> x(n), y(n);
    for (uint32_t i = 0; i < n; ++i) x[i] = rng.below(7), y[i] = rng.below(9);
    double agree = 0, untied_x = 0, untied_y = 0;
    const auto sign = [](double v) { return (v > 0) - (v < 0); };
    for (uint32_t i = 0; i < n; ++i)
      for (uint32_t j = 0; j < i; ++j) {
        const int a = sign(x[i] - x[j]), b = sign(y[i] - y[j]);
        agree += a * b, untied_x += a * a, untied_y += b * b;
      }
    const auto tau = krcc(x, y);
    REQUIRE(tau.has_value() == (untied_x > 0 && untied_y > 0));
    if (tau) CHECK(std::fabs(*tau - agree / std::sqrt(untied_x * untied_y)) < 1e-14);
  }
}

TEST_CASE("bootstrap interval: seeded, thread-independent, of the right width") {
  Rng rng(7, "bootstrap-test");
  const int n = 400;
  std::vector<double> x(n), y(n);
  for (int i = 0; i < n; ++i) x[i] = rng.normal(), y[i] = 0.8 * x[i] + 0.6 * rng.normal();
  set_threads(1);
  const auto one = bootstrap(x, y, plcc, 3);
  set_threads(3);
  const auto three = bootstrap(x, y, plcc, 3), other = bootstrap(x, y, plcc, 4);
  set_threads(0);
  REQUIRE(one);
  CHECK(one->low == three->low);
  CHECK(one->high == three->high);
  CHECK(one->low != other->low);
  // Large-sample theory: standard error of r is (1 - r^2) / sqrt(n).
  const double r = *plcc(x, y), width = 2 * 1.96 * (1 - r * r) / std::sqrt(n);
  CHECK(one->low < r);
  CHECK(one->high > r);
  CHECK((one->high - one->low) / width == doctest::Approx(1).epsilon(0.2));
  // Two pairs: half of the resamples repeat one pair and are undefined. A constant list always is.
  CHECK_FALSE(bootstrap(x, std::vector<double>(n, 1.0), plcc, 3));
  const auto all = agreement(x, y, 3);
  CHECK(all.plcc_interval->low == one->low);
  CHECK(all.n == n);
}

TEST_CASE("schedule: the published curve") {
  const json golden = golden_json("schedule.json");
  for (const auto& curve : golden["curves"]) {
    const Schedule schedule{ScheduleKind::Deiqt, golden["base_lr"], golden["epochs"],
                            curve["iterations_per_epoch"], golden["warmup_epochs"]};
    const auto lr = numbers(curve["lr"]);
    for (size_t i = 0; i < lr.size(); ++i) check_close(schedule.rate(static_cast<int64_t>(i)), lr[i], 1e-12);
    CHECK(contains(message_of([&] { schedule.rate(static_cast<int64_t>(lr.size())); }), "update"));
    CHECK(contains(message_of([&] { schedule.rate(-1); }), "update"));
  }
}

TEST_CASE("schedule: a warm-up longer than the first step truncates the curve") {
  CHECK_FALSE(truncates(ScheduleKind::Deiqt, 9, 3));
  CHECK_FALSE(truncates(ScheduleKind::Deiqt, 5, 5.0 / 3));
  CHECK_FALSE(truncates(ScheduleKind::Deiqt, 5, 1.67));
  CHECK(truncates(ScheduleKind::Deiqt, 5, 1.7));
  CHECK(truncates(ScheduleKind::Deiqt, 5, 3));
  CHECK_FALSE(truncates(ScheduleKind::Cosine, 5, 3));
  CHECK(truncates(ScheduleKind::Constant, 2, 3));
}

TEST_CASE("schedule: cosine, constant, no warm-up, other lengths") {
  Schedule s{ScheduleKind::Cosine, 1e-3, 10, 10, 2};
  CHECK(s.rate(0) == doctest::Approx(1e-6));
  CHECK(s.rate(20) == 1e-3);
  CHECK(s.rate(60) == doctest::Approx(5e-4));
  CHECK(s.rate(99) < 1e-6);
  s.kind = ScheduleKind::Constant;
  CHECK(s.rate(10) == doctest::Approx(5.005e-4));
  CHECK(s.rate(99) == 1e-3);
  s = {ScheduleKind::Deiqt, 1e-3, 30, 4, 0};
  CHECK(s.rate(0) == 1e-3);
  CHECK(s.rate(39) == 1e-3);
  CHECK(s.rate(40) == doctest::Approx(1e-4));
  CHECK(s.rate(119) == doctest::Approx(1e-5));
  s.epochs = 2, s.warmup_epochs = 3;  // a run shorter than its warm-up only rises
  for (int i = 1; i < 8; ++i) CHECK(s.rate(i) > s.rate(i - 1));
  s.epochs = 5, s.iterations = 152, s.warmup_epochs = 5.0 / 3;  // a third of 760 updates: 253
  CHECK(s.rate(252) == doctest::Approx(1e-3).epsilon(0.01));
  CHECK(s.rate(253) == 1e-3);
  CHECK(s.rate(254) == doctest::Approx(1e-4));
  s.warmup_epochs = 0.5;
  CHECK(s.rate(38) == doctest::Approx(1e-6 + 38 * (1e-3 - 1e-6) / 76));
  CHECK(s.rate(76) == 1e-3);
  CHECK(schedule_named("cosine") == ScheduleKind::Cosine);
  CHECK(contains(message_of([] { schedule_named("step"); }), "'step'"));
}
