// Products of 8-bit numbers against sums of integers and, with their scales and epilogues, against F64.
#include <cmath>
#include <cstring>

#include "engine/base/error.h"
#include "kernels/gemm/gemm_int8.h"
#include "kernels/pointwise/number.h"
#include "tests/guarded.h"
#include "tests/int8_paths.h"
#include "tests/kernels/numbers.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

const float kNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

using Bytes = std::vector<uint8_t>;
Bytes quantised(const std::vector<float>& x, int64_t rows, int64_t cols) {
  Guarded<float> from(cpu_device, x);
  Guarded<uint8_t> to(cpu_device, static_cast<size_t>(rows * int8_row_bytes(cols)));
  quantise_tokens(cpu, to.data(), from.data(), rows, cols);
  return to.values();
}
float scale_of(const Bytes& rows, int64_t row, int64_t cols) {
  float scale;
  std::memcpy(&scale, rows.data() + (row + 1) * int8_row_bytes(cols) - 4, 4);
  return scale;
}
int number(const Bytes& rows, int64_t row, int64_t column, int64_t cols) {
  return rows[static_cast<size_t>(row * int8_row_bytes(cols) + column)] - 128;
}

// The sums of integers behind a product.
std::vector<int64_t> sums(const Bytes& a, const std::vector<int8_t>& w, int64_t m, int64_t n, int64_t k) {
  std::vector<int64_t> c;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      int64_t sum = 0;
      for (int64_t p = 0; p < k; ++p) sum += number(a, i, p, k) * w[static_cast<size_t>(j * k + p)];
      c.push_back(sum);
    }
  return c;
}

struct Int8Problem {
  int64_t m, n, k;
  std::vector<float> x, scale, bias, residual;
  std::vector<int8_t> w;
  Bytes a;
  Int8Problem(int64_t m, int64_t n, int64_t k)
      : m(m), n(n), k(k), x(random<float>("x", 0, m * k)), scale(random<float>("scale", 1, n)),
        bias(random<float>("bias", 2, n, 20)), residual(random<float>("residual", 3, m * n, 20)) {
    for (const float v : random<float>("w", 4, n * k, 60))
      w.push_back(static_cast<int8_t>(std::lrint(std::fmax(-127, std::fmin(127, v)))));
    a = quantised(x, m, k);
  }
  template <class Out>
  std::vector<Out> run(const GemmEpilogue<float>& e) const {
    Guarded<char> packed(cpu_device, gemm_int8_packed_bytes(n, k));
    Guarded<int8_t> weight(cpu_device, w);
    gemm_int8_pack(cpu, packed.data(), weight.data(), scale.data(), n, k);
    Guarded<uint8_t> rows(cpu_device, a);
    Guarded<Out> c(cpu_device, static_cast<size_t>(m * (std::is_same_v<Out, float> ? n : int8_row_bytes(n))));
    gemm_int8(cpu, m, n, k, c.data(), rows.data(), packed.data(), e);
    return c.values();
  }
  GemmEpilogue<float> epilogue(bool with_bias, bool gelu, bool with_residual) const {
    GemmEpilogue<float> e;
    if (with_bias) e.bias = bias.data();
    if (with_residual) e.residual = residual.data();
    e.gelu = gelu;
    return e;
  }
  Doubles expected(const GemmEpilogue<float>& e) const {
    const auto whole = sums(a, w, m, n, k);
    Doubles c;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        const auto at = static_cast<size_t>(i * n + j);
        double v = static_cast<double>(whole[at]) * scale[static_cast<size_t>(j)] * scale_of(a, i, k);
        if (e.bias) v += e.bias[j];
        if (e.gelu) v = fn::gelu(v);
        if (e.residual) v += e.residual[at];
        c.push_back(v);
      }
    return c;
  }
};

}  // namespace

TEST_CASE("quantise_tokens: the nearest of 127 steps to either side of zero, the same bytes on every path") {
  for (const int64_t cols : {1, 4, 15, 33, 197, 768}) {
    const auto x = random<float>("tokens", 0, 5 * cols);
    Bytes first;
    on_int8_paths([&] {
      const Bytes q = quantised(x, 5, cols);
      if (first.empty()) first = q;
      CHECK(q == first);
    });
    for (int64_t i = 0; i < 5; ++i) {
      const double scale = scale_of(first, i, cols);
      int most = 0;
      for (int64_t j = 0; j < cols; ++j) {
        const int q = number(first, i, j, cols);
        most = std::max(most, std::abs(q));
        CHECK(std::fabs(q * scale - x[static_cast<size_t>(i * cols + j)]) <= 0.5001 * scale);
      }
      CHECK(most == 127);
    }
  }
}

TEST_CASE("quantise_tokens: ties go to even, and rows of zeros, of tiny numbers and with a NaN or infinity") {
  const int64_t cols = 19;
  const auto row = [&](float first, float others) {
    std::vector<float> x(cols, others);
    x[17] = first;
    return x;
  };
  on_int8_paths([&] {
    const Bytes ties = quantised(row(-127, 2.5f), 1, cols), constant = quantised(row(3, 3), 1, cols);
    CHECK((number(ties, 0, 0, cols) == 2 && number(ties, 0, 17, cols) == -127 && scale_of(ties, 0, cols) == 1));
    CHECK((number(constant, 0, 4, cols) == 127 && ties[cols] == 128));
    CHECK(number(quantised(row(3e38f, 1e38f), 1, cols), 0, 17, cols) == 127);
    for (const auto& zeros :
         {row(0, 0), row(0, -0.0f), row(1e-38f, 1e-44f), row(kNaN, 1), row(1, kNaN), row(-kInfinity, 1)}) {
      const bool finite = std::isfinite(zeros[0] + zeros[17]);
      const Bytes q = quantised(zeros, 1, cols);
      CHECK(std::all_of(q.begin(), q.begin() + int8_words_bytes(cols), [](uint8_t b) { return b == 128; }));
      CHECK((finite ? scale_of(q, 0, cols) == 0 : std::isnan(scale_of(q, 0, cols))));
    }
  });
}

TEST_CASE("gemm_int8: the sums are those of integers, also where 16 bits would saturate") {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 1, 1}, {0, 3, 4}, {3, 0, 4}, {2, 3, 0}, {5, 16, 7},
                                {9, 33, 30}, {13, 20, 197}, {3, 17, 3077}})
    for (const bool extreme : {false, true}) {
      Int8Problem p(m, n, k);
      // The largest of a row is 127 or all are +-127: the scales are 1.
      for (int64_t i = 0; i < m * k; ++i) {
        float& x = p.x[static_cast<size_t>(i)];
        x = extreme || i % k == 0 ? std::copysign(127.0f, extreme && i / k == 1 ? 1.0f : x)
                                  : std::rint(std::fmod(20 * x, 128.0f));
      }
      if (extreme)
        for (size_t i = 0; i < p.w.size(); ++i) p.w[i] = i >= static_cast<size_t>(k) && p.w[i] < 0 ? -127 : 127;
      p.scale.assign(static_cast<size_t>(n), 1);
      p.a = quantised(p.x, m, k);
      std::vector<float> expected;
      for (const int64_t sum : sums(p.a, p.w, m, n, k)) expected.push_back(static_cast<float>(sum));
      on_int8_paths([&] { CHECK(p.run<float>({}) == expected); });
    }
}

TEST_CASE("gemm_int8: scales and epilogue against F64; quantised as it is made, the bytes of quantise_tokens") {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{83, 45, 30}, {17, 64, 48}, {1, 7, 5}}) {
    const Int8Problem p(m, n, k);
    for (const int parts : {0, 1, 3, 5, 7}) {
      const auto e = p.epilogue(parts & 1, parts & 2, parts & 4);
      const Doubles expected = p.expected(e);
      CAPTURE(parts);
      on_int8_paths([&] {
        const auto c = p.run<float>(e);
        CHECK(within<float>(converted<double>(c), expected, 1));
        CHECK(p.run<uint8_t>(e) == quantised(c, m, n));
      });
    }
  }
}

TEST_CASE("gemm_int8: a row that is not finite makes a row of NaN, and no other") {
  Int8Problem p(3, 20, 9);
  p.x[9 + 4] = kInfinity;
  p.a = quantised(p.x, 3, 9);
  for (const bool gelu : {false, true})
    on_int8_paths([&] {
      const auto c = p.run<float>(p.epilogue(true, gelu, !gelu));
      for (int64_t i = 0; i < 60; ++i) CHECK(std::isnan(c[static_cast<size_t>(i)]) == (i / 20 == 1));
      CHECK(std::isnan(scale_of(p.run<uint8_t>(p.epilogue(true, gelu, false)), 1, 20)));
    });
}

TEST_CASE("gemm_int8: the same bits for any number of threads, and for a row alone") {
  const Int8Problem p(197, 70, 48);
  const auto e = p.epilogue(true, true, false);
  on_int8_paths([&] {
    ThreadScope one(1);
    const auto c = p.run<float>(e);
    const auto q = p.run<uint8_t>(e);
    for (const int n : {2, 3}) {
      ThreadScope several(n);
      CHECK(p.run<float>(e) == c);
      CHECK(p.run<uint8_t>(e) == q);
    }
    Int8Problem alone = p;
    alone.m = 1;
    alone.a = Bytes(p.a.begin() + 100 * int8_row_bytes(48), p.a.begin() + 101 * int8_row_bytes(48));
    CHECK(alone.run<float>(e) == std::vector<float>(c.begin() + 100 * 70, c.begin() + 101 * 70));
  });
}

TEST_CASE("gemm_int8: a depth whose sums might not fit 32 bits is refused") {
  CHECK_THROWS_AS(gemm_int8_packed_bytes(1, kInt8MaxDepth + 1), Error);
}

}  // namespace qfm::test
