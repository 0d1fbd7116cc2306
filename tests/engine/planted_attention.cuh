// Attention with a running softmax, with a place for each bug.
#pragma once
#include "engine/cuda/warp_ops.h"
#include "tests/engine/planted_bugs.h"

namespace qfm::test {

inline constexpr int kHeadDim = 8;

// Of `keys` keys the first `length` count; causal: query i sees keys 0 .. i of them.
struct PlantedShape {
  int queries, keys, length;
  bool causal;
  QFM_HD int seen(int query) const { return causal && query + 1 < length ? query + 1 : length; }
};

// y = softmax(q k^T) v for q, y (queries, 8) and k, v (keys, 8): a warp a query, a lane a key.
template <Bug bug>
__global__ void planted_attention_kernel(float* y, const float* q, const float* k, const float* v,
                                         PlantedShape s) {
  SHARED(float, weights, [32]);
  const int lane = lane_id(), query = blockIdx.x, keys = s.keys;
  if (bug == Bug::SeesPadding) s.length = keys;
  const int seen = s.seen(bug == Bug::SeesTheNextKey     ? query + 1
                          : bug == Bug::LowerRightCorner ? query + keys - s.queries
                                                         : query);
  const int limit = bug == Bug::MaskRoundedUp  ? (seen + 31) / 32 * 32
                    : bug == Bug::MaskOffByOne ? seen - 1
                                               : seen;
  const bool all_tiles = bug == Bug::HiddenKeysFirst, whole_tiles = bug == Bug::LeavesDiagonalOut && s.causal;
  const int tiles = ((all_tiles ? keys : seen) + (whole_tiles ? 0 : 31)) / 32;
  float best = -INFINITY, sum = 0, out = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    const int first = 32 * (bug == Bug::HiddenKeysFirst ? tiles - 1 - tile : tile), key = first + lane;
    float score = -INFINITY;
    if (key < limit) {
      score = 0;
      for (int i = 0; i < kHeadDim; ++i)
        score = fmaf(q[query * kHeadDim + i], key < keys ? k[key * kHeadDim + i] : 0, score);
    }
    const float largest = warp_max(score), now = fmaxf(best, bug == Bug::MaxOfOneLane ? score : largest);
    const float old = expf(best - now), weight = key < limit ? expf(score - now) : 0;
    const float total = warp_sum(weight);
    sum = (bug == Bug::SumNotRescaled ? sum : sum * old) + total;
    weights[lane] = weight;
    if (bug != Bug::MissingSyncwarp) __syncwarp();
    if (bug != Bug::OutputNotRescaled) out *= old;
    for (int i = 0; i < 32 && first + i < keys; ++i)
      if (lane < kHeadDim) out = fmaf(weights[i], v[(first + i) * kHeadDim + lane], out);
    if (bug != Bug::MissingReuseSyncwarp) __syncwarp();
    best = now;
  }
  if (bug != Bug::DividesByNothing && sum == 0) sum = 1;
  if (lane < kHeadDim) y[query * kHeadDim + lane] = out / sum;
}

template <Bug bug>
Hunt hunt_in_attention() {
  Hunt hunt;
  for (const PlantedShape& s : {PlantedShape{3, 1, 1, false},
                                {3, 32, 32, false},
                                {3, 33, 33, false},
                                {3, 197, 197, false},
                                {40, 70, 70, true},
                                {70, 40, 40, true},
                                {3, 70, 41, false},
                                {40, 70, 37, true},
                                {3, 33, 0, true}}) {
    const auto wave = [](float step) {
      return [step](size_t i) { return 1.5f * std::sin(step * static_cast<float>(i)); };
    };
    const auto q = with_margin<float>(s.queries * kHeadDim, 0, wave(0.7f));
    // Later keys score higher, so that the maximum grows.
    const auto k = with_margin<float>(s.keys * kHeadDim, 0, [&](size_t i) {
      return wave(1.3f)(i) * (0.3f + static_cast<float>(i) / 1000);
    });
    const auto v = with_margin<float>(s.keys * kHeadDim, 0, wave(0.9f));
    std::vector<float> y;
    const auto launch_it = [&] {
      y.assign(s.queries * kHeadDim, kNan);
      launch<planted_attention_kernel<bug>>(s.queries, 32, 0, nullptr, y.data(), q.data(), k.data(), v.data(),
                                            s);
    };
    hunt.run(launch_it, [&] {
      bool sound = true;
      for (int i = 0; i < s.queries; ++i) {
        std::vector<double> weights(s.keys);
        double sum = 0;
        for (int j = 0; j < s.seen(i); ++j) {
          double score = 0;
          for (int p = 0; p < kHeadDim; ++p) score += double{q[i * kHeadDim + p]} * k[j * kHeadDim + p];
          sum += weights[j] = std::exp(score);
        }
        for (int p = 0; p < kHeadDim; ++p) {
          double expected = 0;
          for (int j = 0; j < s.seen(i); ++j) expected += weights[j] / sum * v[j * kHeadDim + p];
          sound = sound && std::fabs(y[i * kHeadDim + p] - expected) < 1e-4;
        }
      }
      return sound;
    });
  }
  return hunt;
}

}  // namespace qfm::test
