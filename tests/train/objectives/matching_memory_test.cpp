// The matching memory: who is found, what noise comes of it, what is drawn, what is kept.
#include <cmath>
#include <set>

#include "engine/base/rng.h"
#include "layers/noise.h"
#include "tests/train/run/runs.h"
#include "train/objectives/matching_memory.h"

using namespace qfm;
using namespace qfm::test;

namespace {

constexpr int64_t kTokens = 4, kWidth = 6;

Tensor features(int64_t batch, uint32_t seed) {
  const Tensor x({batch, kTokens, kWidth});
  Rng rng(9, "features", seed);
  for (float& v : x.span<float>()) v = rng.normal();
  return x;
}
MatchBatch keys(std::vector<float> score, std::vector<int64_t> image, std::vector<int64_t> reference) {
  MatchBatch batch{std::move(score), std::move(image), std::move(reference), {}};
  for (size_t i = 0; i < batch.image.size(); ++i) batch.sample.push_back(static_cast<uint32_t>(i));
  return batch;
}
MatchOptions options(MatchMode mode) { return {mode, 2, {0.05f, 1.0f}, 0.5, 0, 3}; }

// What a training step does with the memory.
std::optional<SemanticNoise> pass(MatchingMemory& memory, const Tensor& patches, const MatchBatch& batch,
                                  uint32_t epoch) {
  HostInputs inputs;
  memory.prepare(batch, epoch, inputs);
  auto noise = memory.match_and_enqueue(patches, inputs, epoch > 0);
  memory.enqueue(batch);
  return noise;
}

// Whether row b of the noise is a permutation of the tokens of row j of x.
bool permuted(const Tensor& noise, int64_t b, const Tensor& x, int64_t j) {
  std::multiset<float> a, c;
  for (int64_t t = 0; t < kTokens; ++t)
    a.insert(noise.data<float>()[(b * kTokens + t) * kWidth]),
        c.insert(x.data<float>()[(j * kTokens + t) * kWidth]);
  return a == c;
}

}  // namespace

TEST_CASE(
    "the memory excludes the same photo, the same reference and other scores; it forgets the oldest batch") {
  MatchingMemory memory(options(MatchMode::Matched), 2, kTokens, kWidth, DType::F32, cpu_device);
  const Tensor first = features(2, 1), second = features(2, 2), third = features(2, 3);
  CHECK_FALSE(pass(memory, first, keys({.5f, .9f}, {1, 2}, {7, -1}), 0));
  CHECK_FALSE(memory.take_statistics());
  // The same photo; the same reference.
  const auto none = pass(memory, second, keys({.5f, .5f}, {1, 3}, {-1, 7}), 1);
  for (float w : none->weight.span<float>()) CHECK(w == 0);
  // Score .52: row 0 of each batch and row 1 of the second; the least similar is taken. Score .1: none.
  const auto some = pass(memory, third, keys({.52f, .1f}, {4, 5}, {-1, -1}), 1);
  CHECK(some->weight.span<float>()[0] == 1);
  CHECK(some->weight.span<float>()[1] == 0);
  CHECK(some->noise_norm.span<float>()[1] == 0);
  const bool of_a_candidate = permuted(some->tokens, 0, first, 0) || permuted(some->tokens, 0, second, 0) ||
                              permuted(some->tokens, 0, second, 1);
  CHECK(of_a_candidate);
  const auto statistics = memory.take_statistics();
  CHECK(statistics->rate == 0.25);
  CHECK(statistics->score_distance.value() == doctest::Approx(0.02));
  // The first batch is gone: .9 finds nothing any more.
  CHECK(pass(memory, features(2, 4), keys({.9f, .9f}, {8, 9}, {-1, -1}), 1)->weight.span<float>()[0] == 0);
}

TEST_CASE("noise has the length of the features; draws depend on seed, epoch and sample only") {
  for (MatchMode mode : {MatchMode::Random, MatchMode::Gaussian}) {
    const auto draw = [&](uint32_t epoch, int64_t num_candidates) {
      MatchOptions how = options(mode);
      how.num_candidates = num_candidates;
      MatchingMemory memory(how, 3, kTokens, kWidth, DType::F32, cpu_device);
      pass(memory, features(3, 1), keys({.1f, .5f, .9f}, {1, 2, 3}, {-1, -1, -1}), 0);
      return *pass(memory, features(3, 2), keys({.1f, .5f, .9f}, {4, 5, 6}, {-1, -1, -1}), epoch);
    };
    const SemanticNoise a = draw(1, 0), b = draw(1, 0), c = draw(2, 0), tried = draw(1, 5);
    const auto same = [](const Tensor& x, const Tensor& y) {
      return std::equal(x.span<float>().begin(), x.span<float>().end(), y.span<float>().begin());
    };
    CHECK(same(a.tokens, b.tokens));
    CHECK(same(a.strengths[0], b.strengths[0]));
    CHECK_FALSE(same(a.tokens, c.tokens));
    CHECK_FALSE(same(a.strengths[0], c.strengths[0]));
    CHECK(same(a.tokens, tried.tokens));  // the search changes no other draw
    CHECK(tried.strengths.size() == 5);
    int negative = 0;
    for (const Tensor& trial : tried.strengths)
      for (float s : trial.span<float>()) {
        negative += s < 0;
        CHECK(std::fabs(s) <= 0.5f);
      }
    CHECK(negative > 0);
    CHECK(negative < 15);
    for (float s : a.strengths[0].span<float>()) CHECK(s >= 0);

    const Tensor ones = Tensor::from(std::vector<float>(3, 1.0f), {3});
    const Tensor zero = Tensor::zeros(a.tokens.shape());
    const Tensor unit = perturb(zero, a.tokens, noise_factor(ones, a.norm, a.noise_norm)).value;
    const Tensor length = image_norms(unit);
    for (size_t i = 0; i < 3; ++i)
      CHECK(length.span<float>()[i] == doctest::Approx(a.norm.span<float>()[i]).epsilon(1e-5));
  }
}
