// Batch normalisation of small images, with a place for each bug.
#pragma once
#include "engine/cuda/warp_ops.h"
#include "tests/engine/planted_bugs.h"

namespace qfm::test {

constexpr float kNormEps = 1e-5f;

// The sum over a block of 64 threads.
template <Bug bug>
__device__ float block_total(float v, float* part) {
  v = warp_sum(v);
  if (lane_id() == 0) part[warp_id()] = v;
  if (bug != Bug::NormNoBarrierBeforeSum) __syncthreads();
  const float sum = part[0] + part[1];
  if (bug != Bug::NormNoBarrierAfterSum) __syncthreads();
  return sum;
}

// y = (x - mean) rstd for images (batch, channels, places), a block a channel; running moves a tenth of the way to the
// mean.
template <Bug bug>
__global__ void batchnorm_kernel(float* y, float* running, const float* x, int batch, int channels,
                                 int places) {
  SHARED(float, part, [2]);
  const int c = blockIdx.x, n = batch * places, threads = 64;
  const auto at = [&](int i) {
    const int image = i / places;
    return (bug == Bug::NormImagesSideBySide ? image + c * batch : image * channels + c) * places +
           i % places;
  };
  const int counted = bug == Bug::NormOfOneImage ? places : n;
  float sum = 0, squares = 0;
  for (int i = threadIdx.x; i < counted; i += threads) sum += x[at(i)];
  const float mean = block_total<bug>(sum, part) /
                     (bug == Bug::NormCountRoundedUp ? (n + threads - 1) / threads * threads : counted);
  for (int i = threadIdx.x; i < counted; i += threads) {
    const float d = bug == Bug::NormSquaresAboutZero ? x[at(i)] : x[at(i)] - mean;
    squares += d * d;
  }
  float variance = block_total<bug>(squares, part) / counted;
  if (bug == Bug::NormSquaresAboutZero) variance -= mean * mean;
  const float rstd = 1 / sqrtf(fmaxf(variance, 0.0f) + kNormEps);
  for (int i = threadIdx.x; i < n; i += threads) y[at(i)] = (x[at(i)] - mean) * rstd;
  if (bug == Bug::NormRunningTwice ? lane_id() == 0 : threadIdx.x == 0)
    running[c] += 0.1f * (mean - running[c]);
}

// Images far from zero, whose deviations have few digits.
template <Bug bug>
Hunt hunt_in_batchnorm() {
  constexpr int kBatch = 3, kChannels = 5;
  Hunt hunt;
  for (const int places : {7, 35}) {
    const int size = kBatch * kChannels * places;
    const auto x = with_margin<float>(size, size, [](size_t i) { return 100 + 0.1f * std::sin(3.0f * i); });
    std::vector<float> y, running;
    const auto launch_it = [&] {
      y.assign(size, kNan), running.assign(kChannels, 1);
      launch<batchnorm_kernel<bug>>(kChannels, 64, 0, nullptr, y.data(), running.data(), x.data(), kBatch,
                                    kChannels, places);
    };
    hunt.run(launch_it, [&] {
      bool sound = true;
      for (int c = 0; c < kChannels; ++c) {
        double mean = 0, square = 0;
        const auto for_channel = [&](auto&& f) {
          for (int i = 0; i < kBatch * places; ++i) f((i / places * kChannels + c) * places + i % places);
        };
        for_channel([&](int i) { mean += x[i] / double(kBatch * places); });
        for_channel([&](int i) { square += (x[i] - mean) * (x[i] - mean) / (kBatch * places); });
        for_channel([&](int i) {
          sound = sound && std::fabs(y[i] - (x[i] - mean) / std::sqrt(square + kNormEps)) < 1e-2;
        });
        sound = sound && std::fabs(running[c] - (0.9 + 0.1 * mean)) < 1e-3;
      }
      return sound;
    });
  }
  return hunt;
}

}  // namespace qfm::test
