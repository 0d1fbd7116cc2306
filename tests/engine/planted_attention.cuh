// Attention with a running softmax, with a place for each bug.
#pragma once
#include "engine/cuda/warp_ops.h"
#include "tests/engine/planted_bugs.h"

namespace qfm::test {

inline constexpr int kHeadDim = 8;

// y = softmax(q k^T) v for q, y (queries, 8) and k, v (keys, 8): a warp a query, a lane a key.
template <Bug bug>
__global__ void planted_attention_kernel(float* y, const float* q, const float* k, const float* v, int keys) {
  SHARED(float, weights, [32]);
  const int lane = lane_id(), query = blockIdx.x;
  const int limit = bug == Bug::MaskRoundedUp  ? (keys + 31) / 32 * 32
                    : bug == Bug::MaskOffByOne ? keys - 1
                                               : keys;
  float best = -INFINITY, sum = 0, out = 0;
  for (int first = 0; first < keys; first += 32) {
    const int key = first + lane;
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
  if (lane < kHeadDim) y[query * kHeadDim + lane] = out / sum;
}

template <Bug bug>
Hunt hunt_in_attention() {
  constexpr int kQueries = 3;
  Hunt hunt;
  for (const int keys : {1, 32, 33, 197}) {
    const auto wave = [](float step) {
      return [step](size_t i) { return 1.5f * std::sin(step * static_cast<float>(i)); };
    };
    const auto q = with_margin<float>(kQueries * kHeadDim, 0, wave(0.7f));
    // Later keys score higher, so that the maximum grows.
    const auto k = with_margin<float>(
        keys * kHeadDim, 0, [&](size_t i) { return wave(1.3f)(i) * (0.3f + static_cast<float>(i) / 1000); });
    const auto v = with_margin<float>(keys * kHeadDim, 0, wave(0.9f));
    std::vector<float> y;
    const auto launch_it = [&] {
      y.assign(kQueries * kHeadDim, kNan);
      launch<planted_attention_kernel<bug>>(kQueries, 32, 0, nullptr, y.data(), q.data(), k.data(), v.data(),
                                            keys);
    };
    hunt.run(launch_it, [&] {
      bool sound = true;
      for (int i = 0; i < kQueries; ++i) {
        std::vector<double> weights(keys);
        double sum = 0;
        for (int j = 0; j < keys; ++j) {
          double score = 0;
          for (int p = 0; p < kHeadDim; ++p) score += double{q[i * kHeadDim + p]} * k[j * kHeadDim + p];
          sum += weights[j] = std::exp(score);
        }
        for (int p = 0; p < kHeadDim; ++p) {
          double expected = 0;
          for (int j = 0; j < keys; ++j) expected += weights[j] / sum * v[j * kHeadDim + p];
          sound = sound && std::fabs(y[i * kHeadDim + p] - expected) < 1e-4;
        }
      }
      return sound;
    });
  }
  return hunt;
}

}  // namespace qfm::test
