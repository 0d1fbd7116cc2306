// Attention in 8 bits: every path against its definition with sums of integers in F64, and that against attention.
#include "kernels/attention/attention_int8.h"

#include <cmath>

#include "tests/int8_paths.h"
#include "tests/kernels/numbers.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

using Floats = std::vector<float>;

// Rows of q, k and v side by side, as a transformer has them.
struct SelfAttention {
  AttentionShape s;
  int64_t d = s.heads * s.head_dim;
  Floats qkv;
  explicit SelfAttention(const AttentionShape& s) : s(s), qkv(random<float>("qkv", 0, s.batch * s.keys * 3 * d)) {}
  float& at(int64_t token, int64_t part, int64_t column) { return qkv[(token * 3 + part) * d + column]; }
  double at(int64_t token, int64_t part, int64_t column) const { return qkv[(token * 3 + part) * d + column]; }
  Floats run() const {
    Floats o = unwritten<float>(s.batch * s.queries * d);
    const float* x = qkv.data();
    attention_forward_int8(cpu, s, {o.data(), d}, {x, 3 * d}, {x + d, 3 * d}, {x + 2 * d, 3 * d});
    return o;
  }
};

// x in steps of its largest magnitude / 127, which is returned.
double round_to_steps(Doubles& x) {
  const double top = largest(x);
  for (double& v : x) v = top > 0 ? std::nearbyint(v * 127 / top) : 0;
  return top / 127;
}

// The definition, or with `rounded` false attention itself.
Doubles expected(const SelfAttention& p, bool rounded) {
  const AttentionShape& s = p.s;
  const int64_t d = s.head_dim;
  Doubles o(static_cast<size_t>(s.batch * s.queries * p.d));
  for (int64_t head = 0; head < s.batch * s.heads; ++head) {
    const int64_t image = head / s.heads * s.keys, column = head % s.heads * d;
    const auto keys = visible_keys<int64_t>(s, head / s.heads);
    const auto row = [&](int64_t token, int64_t part) {
      Doubles x;
      for (int64_t c = 0; c < d; ++c) x.push_back(p.at(image + token, part, column + c));
      const double scale = rounded ? round_to_steps(x) : 1;
      for (double& v : x) v *= scale;
      return x;
    };
    std::vector<Doubles> k, v(static_cast<size_t>(d));
    for (int64_t j = 0; j < keys.keys; ++j) k.push_back(row(j, 1));
    for (int64_t c = 0; c < d; ++c) {
      for (int64_t j = 0; j < keys.keys; ++j) v[c].push_back(p.at(image + j, 2, column + c));
      const double scale = rounded ? round_to_steps(v[c]) : 1;
      for (double& x : v[c]) x *= scale;
    }
    for (int64_t i = 0; i < s.queries; ++i) {
      const Doubles q = row(i, 0);
      Doubles probability;
      for (int64_t j = 0; j < keys.of(i); ++j) {
        double sum = 0;
        for (int64_t c = 0; c < d; ++c) sum += q[c] * k[j][c];
        probability.push_back(sum * s.scale());
      }
      const double top = probability.empty() ? 0 : *std::max_element(probability.begin(), probability.end());
      double sum = probability.empty() ? 1 : 0;
      for (double& x : probability) sum += x = rounded ? std::nearbyint(255 * std::exp(x - top)) : std::exp(x - top);
      for (int64_t c = 0; c < d; ++c)
        for (size_t j = 0; j < probability.size(); ++j)
          o[(image + i) * p.d + column + c] += probability[j] / sum * v[c][j];
    }
  }
  return o;
}

}  // namespace

TEST_CASE("attention_int8: every path against the definition, under each mask") {
  const std::vector<int32_t> lengths{7, 0};
  for (const AttentionShape& s :
       {AttentionShape{2, 3, 9, 9, 16}, {1, 1, 70, 70, 64}, {1, 2, 33, 33, 7}, {1, 1, 1, 1, 1},
        {1, 2, 40, 40, 12, {.causal = true}}, {2, 1, 9, 9, 5, {true, lengths.data()}}}) {
    const SelfAttention p(s);
    const Doubles exact = expected(p, true), attention = expected(p, false);
    on_int8_paths([&] {
      const Doubles found = converted<double>(p.run());
      if (!has_int8_products()) {
        CHECK(within<float>(found, attention, s.keys + s.head_dim));
        return;
      }
      // A probability near the middle of two of its 255 steps may go to the other one; few are.
      const double step = 4.0 / 255 * largest(exact);
      int64_t other = 0;
      for (size_t i = 0; i < found.size(); ++i) {
        CHECK(std::fabs(found[i] - exact[i]) <= step);
        CHECK(std::fabs(found[i] - attention[i]) <= 0.04 * largest(attention));
        other += std::fabs(found[i] - exact[i]) > 1e-5 * largest(exact);
      }
      CHECK(other * 10 <= static_cast<int64_t>(found.size()));
    });
  }
}

TEST_CASE("attention_int8: the largest numbers, the bits of the mean of all keys and of one key alone") {
  const int64_t n = 260, d = 64;
  SelfAttention mean({1, 1, n, n, d}), one = mean;
  for (int64_t t = 0; t < n; ++t)
    for (int64_t c = 0; c < d; ++c) {
      mean.at(t, 0, c) = 0, mean.at(t, 2, c) = t == 5 ? -127.0f : 127.0f;
      one.at(t, 0, c) = 127, one.at(t, 1, c) = t != 9 && c % 2 ? 126.0f : 127.0f;
      one.at(t, 2, c) = t == 9 ? 3.0f : c % 2 ? 127.0f : -127.0f;
    }
  on_int8_paths([&] {
    if (!has_int8_products()) return;
    for (const float v : mean.run()) CHECK(v == doctest::Approx(127.0 * (n - 2) / n));
    for (const float v : one.run()) CHECK(v == doctest::Approx(3));
  });
}

TEST_CASE("attention_int8: what is not finite makes NaN of what it enters, and of nothing else") {
  for (const int64_t part : {0, 1, 2}) {
    SelfAttention p({2, 2, 6, 6, 8});
    p.at(1, part, 11) = part == 1 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
    on_int8_paths([&] {
      if (!has_int8_products()) return;
      const Floats o = p.run();
      for (int64_t i = 0; i < 12 * 16; ++i) {
        const int64_t token = i / 16, column = i % 16;
        const bool head = token < 6 && column >= 8, hit = part == 0 ? token == 1 : part == 1 || column == 11;
        CHECK(std::isnan(o[i]) == (head && hit));
      }
    });
  }
}

TEST_CASE("attention_int8: the same bits for any number of threads, and for an image alone") {
  const SelfAttention p({3, 2, 50, 50, 16});
  on_int8_paths([&] {
    const Floats all = p.run();
    SelfAttention second = p;
    second.s.batch = 1;
    second.qkv.erase(second.qkv.begin(), second.qkv.begin() + 50 * 96);
    CHECK(second.run() == Floats(all.begin() + 50 * 32, all.begin() + 100 * 32));
    ThreadScope one(1);
    CHECK(p.run() == all);
  });
}

}  // namespace qfm::test
