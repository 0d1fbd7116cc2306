#include "kernels/gemm/int8_weights.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/numbers.h"

namespace qfm::test {
namespace {

using Limits = std::numeric_limits<float>;

struct Rounded {
  std::vector<int8_t> q;
  std::vector<float> scale, w;
};

Rounded rounded(const std::vector<float>& w, int64_t rows) {
  const auto cols = static_cast<int64_t>(w.size()) / rows;
  Rounded r{std::vector<int8_t>(w.size()), std::vector<float>(static_cast<size_t>(rows)), std::vector<float>(w.size())};
  REQUIRE(quantise_rows(r.q.data(), r.scale.data(), w.data(), rows, cols));
  dequantise_rows(r.w.data(), r.q.data(), r.scale.data(), rows, cols);
  return r;
}

TEST_CASE("int8 weights: within half a step, the largest is 127, and rounding again changes nothing") {
  const int64_t rows = 41, cols = 197;
  auto w = random<float>("weights", 0, rows * cols);
  for (int64_t i = 0; i < rows; ++i)  // from 2^-140, which is denormal, to 2^120
    for (int64_t j = 0; j < cols; ++j) w[i * cols + j] *= std::ldexp(1.0f, static_cast<int>(i * 13 / 2 - 140));
  w[3 * cols + 5] = Limits::max(), w[4 * cols] = -Limits::max();
  const Rounded once = rounded(w, rows), twice = rounded(once.w, rows);
  CHECK(once.q == twice.q);
  CHECK(once.scale == twice.scale);
  for (int64_t i = 0; i < rows; ++i) {
    const double s = once.scale[i];
    double most = 0, error = 0, inexact = 0;
    int largest = 0;
    for (int64_t j = i * cols; j < (i + 1) * cols; ++j) {
      most = std::max(most, std::fabs(double{w[j]}));
      largest = std::max(largest, std::abs(int{once.q[j]}));
      error = std::max(error, std::fabs(w[j] - once.q[j] * s));
      inexact = std::max(inexact, std::fabs(once.w[j] - once.q[j] * s));
    }
    INFO("row ", i, ": largest ", most, ", scale ", s);
    CHECK(inexact == 0);
    CHECK(is_int8_scale(once.scale[i]));
    if (most < 127 * double{Limits::min()}) {
      CHECK((s == 1 && largest == 0));
      continue;
    }
    CHECK(largest == 127);
    CHECK(error <= s / 2 * (1 + 0x1p-14));
    CHECK((127 * s <= most * (1 + 0x1p-23) && 127 * s > most * (1 - 0x1p-14)));
  }
}

TEST_CASE("int8 weights: halves go to the even number, zeros have scale 1") {
  const Rounded r = rounded({127, 0.5f, 1.5f, -2.5f, -3.5f, 126.5f, 0, 0, 0, -0.0f, 0, 0}, 2);
  CHECK(r.q == std::vector<int8_t>{127, 0, 2, -2, -4, 126, 0, 0, 0, 0, 0, 0});
  CHECK(r.scale == std::vector<float>{1, 1});
  CHECK(quantise_rows(nullptr, nullptr, nullptr, 0, 0));
}

TEST_CASE("int8 weights: what is not finite is found") {
  for (const float bad : {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(), -Limits::quiet_NaN()}) {
    std::vector<float> w(7 * 197, 1.0f), scale(7);
    std::vector<int8_t> q(w.size());
    w[800] = bad;
    CHECK_FALSE(quantise_rows(q.data(), scale.data(), w.data(), 7, 197));
  }
}

TEST_CASE("int8 weights: what no rounding gives is no scale") {
  for (const float good : {1.0f, 0x1.fffep-3f, Limits::min(), 0x1.02p120f}) CHECK(is_int8_scale(good));
  for (const float bad : {0.0f, -0.0f, -1.0f, 0x1.ffffp-3f, Limits::min() / 2, 0x1.04p121f}) CHECK_FALSE(is_int8_scale(bad));
  for (const float bad : {Limits::infinity(), Limits::quiet_NaN()}) CHECK_FALSE(is_int8_scale(bad));
}

}  // namespace
}  // namespace qfm::test
