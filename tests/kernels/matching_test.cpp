// The matching memory's kernels and the crops, plain code, on cases checked by hand.
#include "kernels/matching/matching.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/image/crops.h"
#include "kernels/matching/noise.h"
#include "tests/kernels/numbers.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Photos with a descriptor of two numbers.
struct Photos {
  std::vector<float> z, score;
  std::vector<int64_t> image, reference, age;
  void add(float z0, float z1, float s, int64_t photo, int64_t ref, int64_t pushed = 0) {
    z.insert(z.end(), {z0, z1});
    score.push_back(s), image.push_back(photo), reference.push_back(ref), age.push_back(pushed);
  }
  MatchKeys keys() const {
    return {z.data(),         score.data(), image.data(),
            reference.data(), age.data(),   static_cast<int64_t>(score.size())};
  }
};

struct Found {
  std::vector<int32_t> partner;
  std::vector<float> cosine;
};
Found search(const Photos& queries, const Photos& memory) {
  MatchKeys q = queries.keys();
  q.age = nullptr;
  Found f{std::vector<int32_t>(queries.score.size(), -7), unwritten<float>(q.n)};
  nearest_match(cpu, f.partner.data(), f.cosine.data(), q, memory.keys(), 2, MatchRule{});
  return f;
}

TEST_CASE("nearest_match: smallest cosine among other photos and references of similar score") {
  Photos memory;
  memory.add(1, 0, 0.50f, 0, 0);        // the same photo
  memory.add(-1, 0, 0.50f, 1, 5);       // the same reference
  memory.add(-1, 0, 0.56f, 2, 6);       // score too far
  memory.add(0.6f, 0.8f, 0.54f, 3, 6);  // cosine 0.6
  memory.add(0, 1, 0.46f, 4, 7);        // cosine 0: the partner
  memory.add(-1, 0, kNaN, 5, 8);        // no score
  memory.add(kNaN, 0, 0.50f, 6, 9);     // no direction
  Photos queries;
  queries.add(1, 0, 0.50f, 0, 5);
  const Found f = search(queries, memory);
  CHECK(f.partner[0] == 4);
  CHECK(f.cosine[0] == 0.0f);
}

TEST_CASE("nearest_match: the youngest of equal ones, wherever it stands") {
  Photos memory, queries;
  memory.add(0, 1, 0.5f, 1, -1, 3);
  memory.add(0, 1, 0.5f, 2, -1, 9);
  memory.add(0, -1, 0.5f, 3, -1, 9);  // pushed together: the one further on
  memory.add(0, 1, 0.5f, 4, -1, 8);
  queries.add(1, 0, 0.5f, 0, -1);  // unknown references are no reason against
  CHECK(search(queries, memory).partner[0] == 2);
}

TEST_CASE("nearest_match: none") {
  Photos memory, queries;
  queries.add(1, 0, 0.5f, 0, 1);
  queries.add(1, 0, kNaN, 0, 1);
  const auto none = [&] {
    const Found f = search(queries, memory);
    for (size_t i = 0; i < 2; ++i) {
      CHECK(f.partner[i] == -1);
      CHECK(std::isnan(f.cosine[i]));
    }
  };
  none();  // an empty memory
  memory.add(0.8f, 0.6f, 0.5f, 1, 2);
  none();  // cosine 0.8 is above tau_s
  memory.add(0.1f, 0.9f, 0.5f, 0, 3), memory.add(0.1f, 0.9f, 0.5f, 2, 1);
  none();
  memory.add(0.7f, 0.7f, 0.46f, 4, 4);  // 0.7 is not above it
  CHECK(search(queries, memory).partner[0] == 3);
  CHECK(search({}, memory).partner.empty());
}

TEST_CASE_TEMPLATE("gather_tokens: permuted tokens of another image, or zeros", T, float, bf16, double) {
  const auto x = converted<T>(Doubles{0, 1, 10, 11, 20, 21, 30, 31, 40, 41, 50, 51});  // (2, 3, 2)
  auto y = unwritten<T>(18);
  const std::vector<int32_t> from{1, -1, 0}, order{2, 0, 1, 0, 1, 2, 1, 1, 0};
  gather_tokens(cpu, y.data(), x.data(), from.data(), order.data(), 3, 3, 2);
  CHECK(converted<double>(y) == Doubles{50, 51, 30, 31, 40, 41, 0, 0, 0, 0, 0, 0, 10, 11, 10, 11, 0, 1});
}

TEST_CASE_TEMPLATE(
    "keep_worst_case: the trial that moves the score most, either way; the first of equal ones", T, float,
    bf16, double) {
  const auto clean = converted<T>(Doubles{10, 10, 10});
  std::vector<acc<T>> strength{1, 1, 1}, change{0, 0, 0};
  const auto round = [&](acc<T> trial, const Doubles& scores) {
    const std::vector<acc<T>> trials(3, trial);
    const auto score = converted<T>(scores);
    keep_worst_case(cpu, strength.data(), change.data(), trials.data(), score.data(), clean.data(), 3);
  };
  round(2, {11, 10, 12}), round(3, {7, 10, 8}), round(4, {12, 10, 9});
  CHECK(strength == std::vector<acc<T>>{3, 1, 2});
  CHECK(change == std::vector<acc<T>>{3, 0, 2});
}

TEST_CASE_TEMPLATE("crop_normalise: the window, its mirror, the formula to the last bit", T, float, bf16) {
  constexpr int64_t crop = 2;
  const ChannelScale scale{{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
  std::vector<uint8_t> wide(3 * 5 * 4), narrow(3 * 2 * 2);
  for (size_t i = 0; i < wide.size(); ++i) wide[i] = static_cast<uint8_t>(4 * i + 1);
  for (size_t i = 0; i < narrow.size(); ++i) narrow[i] = static_cast<uint8_t>(255 - i);
  const CropSource sources[] = {{wide.data(), 5, 4, 3, 1, 0}, {narrow.data(), 2, 2, 0, 0, 1}};
  auto out = unwritten<T>(2 * 3 * crop * crop);
  crop_normalise(cpu, out.data(), sources, scale, 2, crop);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t c = 0; c < 3; ++c)
      for (int64_t y = 0; y < crop; ++y)
        for (int64_t x = 0; x < crop; ++x) {
          const uint8_t pixel = b == 0 ? wide[static_cast<size_t>(3 * ((1 + y) * 5 + 3 + x) + c)]
                                       : narrow[static_cast<size_t>(3 * (y * 2 + 1 - x) + c)];
          const T expected((static_cast<float>(pixel) / 255.0f - scale.mean[c]) / scale.std[c]);
          CHECK(static_cast<float>(out[static_cast<size_t>(((b * 3 + c) * crop + y) * crop + x)]) ==
                static_cast<float>(expected));
        }
  crop_normalise<T>(cpu, nullptr, nullptr, scale, 0, crop);
}

}  // namespace
}  // namespace qfm::test
