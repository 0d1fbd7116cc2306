// Sums of rows and of columns, as layernorm takes them, with a place for each bug.
#pragma once
#include "engine/cuda/warp_ops.h"
#include "tests/engine/planted_bugs.h"

namespace qfm::test {

// sums[r] = sum of row r of x (rows, n); y = sums[r] - x. A block of 64 threads a row.
template <Bug bug>
__global__ void rows_kernel(float* y, float* sums, const float* x, int rows, int n) {
  SHARED(float, part, [2]);
  SHARED(float, spare, [bug == Bug::SharedTooLarge ? 12287 : 1]);
  if (threadIdx.x == 0) spare[0] = 0;
  const int lane = lane_id(), warp = warp_id();
  const int stride = bug == Bug::WrongStride ? n + 1 : n;
  const int end = bug == Bug::GuardTooFar ? n + 1 : bug == Bug::GuardTooShort ? n - 1 : n;
  if (bug == Bug::EarlyReturn && warp * 32 >= n) return;
  if (bug == Bug::ExitedLane && static_cast<int>(threadIdx.x) >= n) return;
  for (int row = blockIdx.x; row < rows; row += bug == Bug::GridTooSmall ? rows : gridDim.x) {
    float sum = 0;
    int c = threadIdx.x;
    if (bug == Bug::MisalignedPack)
      for (c = 4 * threadIdx.x; c + 3 < n; c += 4 * 64)
        for (const float v : load<4>(x + row * n + c).at) sum += v;
    for (; c < end; c += 64) sum += x[row * stride + c];
    for (int d = 1; d < (bug == Bug::HalfButterfly ? 16 : 32); d *= 2)
      sum += __shfl_down_sync(bug == Bug::HalfMask ? 0xffffu : kWholeWarp, sum, d);
    if (lane == (bug == Bug::WrongLane ? 31 : 0)) {
      if (bug == Bug::UnclearedSum) part[warp] += sum;
      else part[warp] = sum;
      if (bug == Bug::SharedWriteOutside) (&part[0])[2 + warp] = sum;
    }
    if (bug == Bug::DivergentBarrier && warp == 1) __syncthreads();
    else if (bug != Bug::MissingBarrier && bug != Bug::DivergentBarrier) __syncthreads();
    float total = part[0] + part[1];
    if (bug == Bug::SharedReadOutside) total += part[blockDim.x / 32];
    if (threadIdx.x == 0) {
      sums[row + (bug == Bug::WritesNextRow)] = total;
      if (bug == Bug::WritesOtherBlock) sums[(row + 1) % rows] = total;
    }
    for (int i = threadIdx.x; i < n; i += 64) y[row * n + i] = total - x[row * n + i];
    if (bug != Bug::MissingReuseBarrier) __syncthreads();
  }
}

// Whole numbers, so that any order of addition gives the same sum.
template <Bug bug>
Hunt hunt_in_rows() {
  constexpr int kRows = 6;
  Hunt hunt;
  for (const int n : {1, 7, 64, 197}) {
    const auto x = with_margin<float>(kRows * n, kRows + n + 4, [](size_t i) { return i % 1000 + 1.0f; });
    std::vector<float> y, sums;
    const auto launch_it = [&] {
      y.assign(kRows * n, kNan), sums.assign(kRows + 1, kNan);
      launch<rows_kernel<bug>>(2, 64, 0, nullptr, y.data(), sums.data(), x.data(), kRows, n);
    };
    hunt.run(launch_it, [&] {
      bool sound = all_nan(sums, kRows);
      for (int r = 0; r < kRows; ++r) {
        float sum = 0;
        for (int i = 0; i < n; ++i) sum += x[r * n + i];
        sound = sound && sums[r] == sum;
        for (int i = 0; i < n; ++i) sound = sound && y[r * n + i] == sum - x[r * n + i];
      }
      return sound;
    });
  }
  return hunt;
}

// Sums of the columns of x (rows, 32) over rows b, b + gridDim.x, ...: slice b of partial. Four warps take
// every fourth of a block's rows; their sums are added in order.
template <Bug bug>
__global__ void column_parts_kernel(float* y, float* partial, const float* x, int rows) {
  SHARED(float, part, [bug == Bug::UnwrittenShared ? 5 : 4][32]);
  SHARED(int, next, );
  const int lane = lane_id(), warp = warp_id();
  if (threadIdx.x == 0) next = 0;
  __syncthreads();
  float sum = 0;
  for (int i = blockIdx.x + warp * gridDim.x; i < rows; i += 4 * gridDim.x) sum += x[i * 32 + lane];
  int seat = warp;
  if (bug == Bug::OrderOfArrival) {
    if (lane == 0) seat = next++;
    seat = __shfl_sync(kWholeWarp, seat, 0);
  }
  part[seat][lane] = sum;
  __syncthreads();
  float total = 0;
  for (int k = 0; k < (bug == Bug::UnwrittenShared ? 5 : 4); ++k) total += part[k][lane];
  if (warp == 0) partial[blockIdx.x * 32 + lane] = total;
  if (bug != Bug::ReadsOtherBlock || blockIdx.x != 0) return;
  __syncthreads();
  float all = 0;
  for (unsigned b = 0; b < gridDim.x; ++b) all += partial[b * 32 + lane];
  if (warp == 0) y[lane] = all;
}

template <Bug bug>
__global__ void add_slices_kernel(float* y, const float* partial, int slices) {
  if (bug == Bug::MissingSlice) --slices;
  if (bug == Bug::UnwrittenSlice) ++slices;
  float sum = 0;
  for (int i = 0; i < slices; ++i) sum += partial[i * 32 + threadIdx.x];
  y[threadIdx.x] = sum;
}

// Sums that round: the same bits every time show a fixed order.
template <Bug bug>
Hunt hunt_in_columns() {
  constexpr int kRows = 197, kSlices = 3;
  const auto x = with_margin<float>(kRows * 32, 0, [](size_t i) { return std::sin(static_cast<float>(i)); });
  std::vector<float> y, first;
  Hunt hunt;
  const auto launch_it = [&] {
    std::vector<float> partial((kSlices + 1) * 32, kNan);
    y.assign(32, kNan);
    launch<column_parts_kernel<bug>>(kSlices, 128, 0, nullptr, y.data(), partial.data(), x.data(), kRows);
    if constexpr (bug != Bug::ReadsOtherBlock)
      launch<add_slices_kernel<bug>>(1, 32, 0, nullptr, y.data(), partial.data(), kSlices);
  };
  hunt.run(launch_it, [&] {
    bool sound = true;
    for (int c = 0; c < 32; ++c) {
      double sum = 0;
      for (int r = 0; r < kRows; ++r) sum += x[r * 32 + c];
      sound = sound && std::fabs(y[c] - sum) < 1e-4;
    }
    if (first.empty()) first = y;
    return sound && y == first;
  });
  return hunt;
}

}  // namespace qfm::test
