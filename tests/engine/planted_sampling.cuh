// Bilinear samples of an image and their gradient, which gathers from lists of places, with a place for each bug.
#pragma once
#include "engine/cuda/launch.h"
#include "tests/engine/planted_bugs.h"

namespace qfm::test {

// An image of 5 x 7 and 150 places (column, row) of it, in elements: some outside, many in one cell.
constexpr int kSampleRows = 5, kSampleColumns = 7, kSamplePlaces = 150;
constexpr int kSampleCells = (kSampleRows + 1) * (kSampleColumns + 1);

// What the element (row, column) weighs at a place: 0 where it is not one of the four around it.
__device__ __host__ inline float weight_at(const float* place, int row, int column) {
  const float across = std::fabs(place[0] - column), down = std::fabs(place[1] - row);
  return across < 1 && down < 1 ? (1 - across) * (1 - down) : 0.0f;
}
__device__ inline int low_of(float position) { return static_cast<int>(std::floor(position)); }

// A thread a place.
template <Bug bug>
__global__ void samples_kernel(float* y, const float* x, const float* places) {
  const int p = blockIdx.x * blockDim.x + threadIdx.x;
  if (p >= kSamplePlaces) return;
  const float* place = places + 2 * p;
  float sum = 0;
  for (int k = 0; k < 4; ++k) {
    int row = low_of(place[1]) + k / 2, column = low_of(place[0]) + k % 2;
    const float weight = weight_at(place, row, column);
    if (bug == Bug::NearestCounted) {
      row = row < 0 ? 0 : row < kSampleRows ? row : kSampleRows - 1;
      column = column < 0 ? 0 : column < kSampleColumns ? column : kSampleColumns - 1;
    }
    const bool in_row = column >= 0 && (bug == Bug::RowWraps || column < kSampleColumns);
    if (in_row && row >= 0 && row < kSampleRows) sum += weight * x[row * kSampleColumns + column];
  }
  y[p] = sum;
}

// heads[cell]: the last place of the cell; next[p]: the one before p, or -1. One block of 64 threads.
template <Bug bug>
__global__ void sample_lists_kernel(int* heads, int* next, const float* places) {
  SHARED(int, cells, [64]);
  const int me = threadIdx.x;
  for (int i = me; i < kSampleCells; i += 64) heads[i] = -1;
  for (int begin = 0; begin < kSamplePlaces; begin += 64) {
    const int p = begin + me, at = p < kSamplePlaces ? p : 0;
    const int column = low_of(places[2 * at]) + 1, row = low_of(places[2 * at + 1]) + 1;
    const bool near = row >= 0 && row <= kSampleRows && column >= 0 && column <= kSampleColumns;
    const int cell = near && p < kSamplePlaces ? row * (kSampleColumns + 1) + column : -1;
    cells[me] = cell;
    __syncthreads();
    if (bug == Bug::ListAsTheyCome) {
      if (cell >= 0) next[p] = heads[cell], heads[cell] = p;
      __syncthreads();
      continue;
    }
    int before = me - 1, after = me + 1;
    while (before >= 0 && cells[before] != cell) --before;
    while (after < 64 && cells[after] != cell) ++after;
    if (cell >= 0) next[p] = before >= 0 ? begin + before : bug == Bug::ListCutShort ? -1 : heads[cell];
    if (bug != Bug::NoBarrierBeforeHead) __syncthreads();
    if (cell >= 0 && (after == 64 || bug == Bug::AnyPlaceIsHead)) heads[cell] = p;
  }
}

// A thread an element: the places of the four cells around it.
template <Bug bug>
__global__ void sample_gather_kernel(float* dx, const float* dy, const int* heads, const int* next,
                                     const float* places) {
  const int e = threadIdx.x, row = e / kSampleColumns, column = e % kSampleColumns;
  if (row >= kSampleRows) return;
  float sum = 0;
  for (int k = 0; k < (bug == Bug::CellForgotten ? 3 : 4); ++k) {
    const int cell = (row + 1 - k / 2) * (kSampleColumns + 1) + column + 1 - k % 2;
    int left = kSamplePlaces;  // a list that a bug has closed to a ring ends too
    for (int p = heads[cell]; p >= 0 && left > 0; p = next[p], --left)
      sum += weight_at(places + 2 * p, row, column) * dy[p];
  }
  dx[e] = sum;
}

struct SampleNumbers {
  std::vector<float> x, dy, places, y, dx;
  std::vector<int> heads, next;
  SampleNumbers() {
    x = with_margin<float>(kSampleRows * kSampleColumns, 8, [](size_t i) { return std::cos(1.7f * i); });
    dy = with_margin<float>(kSamplePlaces, 8, [](size_t i) { return std::sin(0.9f + i); });
    places = with_margin<float>(2 * kSamplePlaces, 8, [](size_t i) {
      const int p = static_cast<int>(i / 2);
      if (p % 3 == 0) return 2.3f + 0.004f * static_cast<float>(p);  // one cell
      return i % 2 ? static_cast<float>(p * 13 % 97) / 14.0f - 1.1f
                   : static_cast<float>(p * 29 % 89) / 9.7f - 1.3f;
    });
  }
  bool sound() const {
    std::vector<double> sums(kSampleRows * kSampleColumns);
    bool good = all_nan(y, kSamplePlaces) && all_nan(dx, sums.size());
    for (int p = 0; p < kSamplePlaces; ++p) {
      double sum = 0;
      for (int e = 0; e < kSampleRows * kSampleColumns; ++e) {
        const double weight = weight_at(&places[2 * p], e / kSampleColumns, e % kSampleColumns);
        sum += weight * x[e];
        sums[e] += weight * dy[p];
      }
      good = good && std::fabs(y[p] - sum) < 1e-5;
    }
    for (size_t e = 0; e < sums.size(); ++e) good = good && std::fabs(dx[e] - sums[e]) < 1e-5;
    return good;
  }
};

// dx rounds: the same bits every time show a fixed order.
template <Bug bug>
Hunt hunt_in_samples() {
  SampleNumbers n;
  std::vector<float> first;
  Hunt hunt;
  const auto launch_it = [&] {
    n.y.assign(kSamplePlaces + 8, kNan), n.dx.assign(kSampleRows * kSampleColumns + 8, kNan);
    n.heads.assign(kSampleCells, -1), n.next.assign(kSamplePlaces, -1);
    launch<samples_kernel<bug>>(3, 64, 0, nullptr, n.y.data(), n.x.data(), n.places.data());
    launch<sample_lists_kernel<bug>>(1, 64, 0, nullptr, n.heads.data(), n.next.data(), n.places.data());
    launch<sample_gather_kernel<bug>>(1, 64, 0, nullptr, n.dx.data(), n.dy.data(), n.heads.data(),
                                      n.next.data(), n.places.data());
  };
  hunt.run(launch_it, [&] {
    if (first.empty()) first = n.dx;
    return n.sound() && std::memcmp(first.data(), n.dx.data(), first.size() * sizeof(float)) == 0;
  });
  return hunt;
}

}  // namespace qfm::test
