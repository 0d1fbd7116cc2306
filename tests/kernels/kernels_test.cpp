// What is special about single kernels of the CPU; what holds for all of them is in cases_test.cpp.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/loss/loss.h"
#include "kernels/norm/layernorm.h"
#include "kernels/optim/adamw.h"
#include "kernels/pointwise/map.h"
#include "kernels/reduce/reduce.h"
#include "kernels/reduce/softmax.h"
#include "tests/kernels/numbers.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

bool same_bits(const Doubles& a, const Doubles& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

TEST_CASE("kernels: sums over nothing are zero") {
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    std::vector<float> sum = unwritten<float>(5);
    reduce_sum<float, float>(cpu, {1, 0, 5}, sum.data(), nullptr);
    CHECK(sum == std::vector<float>(5, 0.0f));
    CHECK(sum_squares<float>(cpu, nullptr, 0) == 0.0);
  }
}

TEST_CASE("layernorm: rows near 1000 with a spread of 0.05 keep their digits") {
  const int64_t r = 5, c = 197;
  auto x = random<float>("offset", 0, r * c, 0.05);
  for (float& v : x) v += 1000.0f;
  const std::vector<float> w(c, 1.0f), b(c, 0.0f);
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    auto y = unwritten<float>(r * c), mean = unwritten<float>(r), rstd = mean;
    layernorm_forward(cpu, y.data(), mean.data(), rstd.data(), x.data(), w.data(), b.data(), r, c, 1e-6);
    for (int64_t i = 0; i < r; ++i) {
      double m = 0, variance = 0;
      for (int64_t j = 0; j < c; ++j) m += static_cast<double>(x[i * c + j]) / c;
      for (int64_t j = 0; j < c; ++j) variance += std::pow(static_cast<double>(x[i * c + j]) - m, 2) / c;
      const double expected = 1 / std::sqrt(variance + 1e-6);
      CHECK(std::fabs(static_cast<double>(rstd[i]) / expected - 1) < 1e-5);
      CHECK(std::fabs(static_cast<double>(mean[i]) - m) <=
            0x1p-14);  // half the spacing of floats there: 2^-15
      // The mean is kept as a float: its rounding moves a whole row by at most 2^-15 / 0.05.
      for (int64_t j = 0; j < c; ++j)
        CHECK(std::fabs(static_cast<double>(y[i * c + j]) -
                        (static_cast<double>(x[i * c + j]) - m) * expected) < 2e-3);
    }
  }
}

TEST_CASE("softmax: large values and rows of equal values") {
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    for (float same : {0.0f, 80.0f, -80.0f, -1000.0f}) {
      const std::vector<float> x(19, same);
      auto y = unwritten<float>(19);
      softmax_forward(cpu, y.data(), x.data(), 1, 19);
      for (float v : y) CHECK(std::fabs(v * 19 - 1) < 1e-6f);
    }
    std::vector<float> x(19, -80.0f), y = unwritten<float>(19);
    x[18] = 80.0f;
    softmax_forward(cpu, y.data(), x.data(), 1, 19);
    CHECK(y[18] == 1.0f);
    CHECK(y[0] == 0.0f);
  }
}

TEST_CASE("sigmoid: both tails are right and finite") {
  const std::vector<float> x{-200.0f, -100.0f, -80.0f, 0.0f, 80.0f, 200.0f};
  auto y = unwritten<float>(6);
  map(cpu, fn::Sigmoid{}, flat_space<1>(6), y.data(), MapInputs<float, 1>{{x.data()}});
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = 1 / (1 + std::exp(-static_cast<double>(x[i])));
    CHECK(std::fabs(static_cast<double>(y[i]) - expected) <= 1e-6 * expected + 1.2e-38);  // under the normal range it may be 0
  }
}

TEST_CASE("gelu: far tails are 0 and x") {
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    const std::vector<float> x{-1e30f, -30.0f, -9.0f, 0.0f, 9.0f, 30.0f, 1e30f}, dy(7, 1.0f);
    auto y = unwritten<float>(7), dx = y;
    map(cpu, fn::Gelu{}, flat_space<1>(7), y.data(), MapInputs<float, 1>{{x.data()}});
    map(cpu, fn::Derivative<fn::Gelu>{}, flat_space<2>(7), dx.data(), MapInputs<float, 2>{{dy.data(), x.data()}});
    for (size_t i = 0; i < x.size(); ++i) {
      CHECK(std::fabs(y[i] - std::max(x[i], 0.0f)) <= 1e-6f * std::max(1.0f, x[i]));
      CHECK(std::fabs(dx[i] - (x[i] > 0 ? 1.0f : x[i] < 0 ? 0.0f : 0.5f)) <= 1e-6f);
    }
  }
}

TEST_CASE("losses: the gradient is 0 where prediction and target agree") {
  const std::vector<float> p{3.0f, 5.0f, -1.0f}, t{3.0f, 1.0f, -0.5f};
  float loss;
  auto grad = unwritten<float>(3);
  smooth_l1(cpu, &loss, grad.data(), p.data(), t.data(), 1.0, 3);
  CHECK(grad[0] == 0.0f);
  CHECK(grad[1] == doctest::Approx(1.0 / 3));
  CHECK(grad[2] == doctest::Approx(-0.5 / 3));
  CHECK(loss == doctest::Approx((3.5 + 0.125) / 3));
  smooth_l1(cpu, &loss, grad.data(), p.data(), t.data(), 0.0, 3);  // absolute error
  CHECK(grad[0] == 0.0f);
  CHECK(loss == doctest::Approx(4.5 / 3));
}

TEST_CASE("l2norm, cosine: a row of zeros gives 0 and finite gradients") {
  const std::vector<float> zero(7, 0.0f), other(7, 2.0f), dy(7, 1.0f);
  auto y = unwritten<float>(7), dx = y, db = y, norm = unwritten<float>(1);
  l2norm_forward(cpu, y.data(), norm.data(), zero.data(), 1, 7, 1e-12);
  CHECK(y == zero);
  CHECK(norm[0] == 0.0f);
  l2norm_backward(cpu, dx.data(), dy.data(), y.data(), norm.data(), 1, 7, 1e-12);
  for (float v : dx) CHECK(v == doctest::Approx(1e12));
  auto cosine = unwritten<float>(1);
  cosine_forward(cpu, cosine.data(), zero.data(), other.data(), 1, 7, 1e-8);
  CHECK(cosine[0] == 0.0f);
  cosine_backward(cpu, dx.data(), db.data(), dy.data(), zero.data(), other.data(), 1, 7, 1e-8);
  for (float v : dx) CHECK(v == doctest::Approx(1e8 / std::sqrt(7.0)));
  CHECK(db == zero);
}

TEST_CASE("cast: rounds to nearest even and keeps NaN and infinity on every path") {
  auto x = random<float>("cast", 0, 37);
  const float special[] = {0.0f, -0.0f, 1.00390625f, 1.01171875f, -1.00390625f, 3.4e38f, 1e-40f, -1e-45f};
  std::copy(std::begin(special), std::end(special), x.begin() + 29);
  x[3] = std::numeric_limits<float>::infinity();
  x[35] = -std::numeric_limits<float>::infinity();
  x[36] = x[4] = std::numeric_limits<float>::quiet_NaN();
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    std::vector<bf16> low(37);
    std::vector<float> back(37);
    cast(cpu, low.data(), x.data(), 37);
    cast(cpu, back.data(), low.data(), 37);
    for (size_t i = 0; i < 37; ++i) {
      CHECK(low[i].bits == bf16(x[i]).bits);
      const float expected = static_cast<float>(bf16(x[i]));
      CHECK(std::memcmp(&back[i], &expected, sizeof expected) == 0);
    }
  }
}

template <class To, class From>
void check_cast() {
  const auto b = random<From>("b", 0, 37);
  auto copy = unwritten<To>(37);
  cast(cpu, copy.data(), b.data(), 37);
  using Coarse = std::conditional_t<(sizeof(To) < sizeof(From)), To, From>;
  CHECK(within<Coarse>(converted<double>(copy), converted<double>(b), 1));
}

TEST_CASE("cast: every pair of types") {
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    check_cast<float, float>(), check_cast<float, bf16>(), check_cast<float, double>();
    check_cast<bf16, float>(), check_cast<bf16, bf16>(), check_cast<bf16, double>();
    check_cast<double, float>(), check_cast<double, bf16>(), check_cast<double, double>();
  }
}

TEST_CASE("sum_squares: in double, whatever the size of the values") {
  const auto x = random<float>("sum_squares", 0, 40009, 1e25);
  double expected = 0;
  for (float v : x) expected += static_cast<double>(v) * static_cast<double>(v);
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    CHECK(std::fabs(sum_squares(cpu, x.data(), 40009) / expected - 1) < 1e-12);
  }
}

// The rule of adamw.h, one parameter at a time.
template <class T>
void check_adamw() {
  constexpr int64_t n = 1009;
  using A = acc<T>;
  auto master = random<A>("p", 0, n), m = std::vector<A>(n), v = m;
  auto copy = unwritten<T>(n);
  Doubles p = converted<double>(master), dm(n), dv(n);
  const AdamWRule rule;
  const double lr = 1e-2, factor = 0.5;
  for (int64_t step = 1; step <= 3; ++step) {
    auto g = random<A>("g", static_cast<uint32_t>(step), n);
    g[0] = 0;     // eps alone divides
    g[1] = 1e-8;  // eps counts
    adamw<T>(cpu, adamw_scalars<A>(rule, lr, step, factor), master.data(),
             std::is_same_v<T, A> ? nullptr : copy.data(), m.data(), v.data(), g.data(), n);
    const double t = static_cast<double>(step);
    for (size_t i = 0; i < n; ++i) {
      const double gi = factor * static_cast<double>(g[i]);
      dm[i] = rule.beta1 * dm[i] + (1 - rule.beta1) * gi;
      dv[i] = rule.beta2 * dv[i] + (1 - rule.beta2) * gi * gi;
      p[i] -= lr * rule.weight_decay * p[i];
      p[i] -= lr * dm[i] / (1 - std::pow(rule.beta1, t)) /
              (std::sqrt(dv[i] / (1 - std::pow(rule.beta2, t))) + rule.eps);
    }
  }
  CHECK(within<A>(converted<double>(master), p, 3));
  CHECK(within<A>(converted<double>(m), dm, 3));
  CHECK(within<A>(converted<double>(v), dv, 3));
  if (!std::is_same_v<T, A>)
    CHECK(same_bits(converted<double>(copy), converted<double>(converted<T>(master))));
}

TEST_CASE("adamw: three steps as the rule says, in every type") {
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    check_adamw<float>();
    check_adamw<bf16>();
    check_adamw<double>();
  }
}

}  // namespace
}  // namespace qfm::test
