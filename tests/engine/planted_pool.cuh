// The maximum over windows of 3 x 3, stride 2, padding 1, and its gradient gathered for each element, with a place for
// each bug.
#pragma once
#include "engine/cuda/warp_ops.h"
#include "tests/engine/planted_bugs.h"

namespace qfm::test {

struct PlantedImages {
  int planes, rows, cols;
  __host__ __device__ int out_rows() const { return (rows + 1) / 2; }
  __host__ __device__ int out_cols() const { return (cols + 1) / 2; }
};

template <Bug bug>
__global__ void max_pool_kernel(PlantedImages s, float* y, int* at, const float* x) {
  const int i = blockIdx.x * 32 + threadIdx.x, places = s.out_rows() * s.out_cols();
  if (i >= s.planes * places) return;
  const int plane = i / places, top = i % places / s.out_cols() * 2 - 1, left = i % s.out_cols() * 2 - 1;
  float most = -INFINITY;
  int where = -1;
  for (int row = top; row < top + 3; ++row)
    for (int col = left; col < left + 3; ++col) {
      const bool inside =
          row >= 0 && row < s.rows && col >= 0 && (col < s.cols || bug == Bug::PoolColumnWraps);
      if (!inside && bug != Bug::PoolPaddingIsZero) continue;
      const float v = inside ? x[(plane * s.rows + row) * s.cols + col] : 0;
      if (bug == Bug::PoolLastOfEqual ? v >= most : v > most) most = v, where = row * s.cols + col;
    }
  y[i] = most;
  at[i] = bug == Bug::PoolPlaceInBatch ? plane * s.rows * s.cols + where : where;
}

template <Bug bug>
__global__ void max_pool_backward_kernel(PlantedImages s, float* dx, const float* dy, const int* at) {
  const int i = blockIdx.x * 32 + threadIdx.x, size = s.rows * s.cols;
  if (i >= s.planes * size) return;
  const int plane = i / size, row = i % size / s.cols, col = i % s.cols;
  const int more = bug == Bug::PoolLastWindowForgotten ? 0 : 1;
  float sum = 0;
  for (int u = row / 2; u <= (row + more) / 2 && u < s.out_rows(); ++u)
    for (int v = col / 2; v <= (col + more) / 2 && v < s.out_cols(); ++v) {
      const int window = (plane * s.out_rows() + u) * s.out_cols() + v;
      if (at[window] == i % size) sum += dy[window];
    }
  dx[i] = sum;
}

// Negative whole numbers, many of them equal; gradients 1, 2, 3, ...
template <Bug bug>
Hunt hunt_in_pool() {
  Hunt hunt;
  for (const PlantedImages s : {PlantedImages{3, 5, 7}, {2, 8, 6}}) {
    const int size = s.planes * s.rows * s.cols, places = s.out_rows() * s.out_cols(),
              out = s.planes * places;
    const auto x = with_margin<float>(size, s.cols + 4,
                                      [](size_t i) { return -1.0f - static_cast<float>(i * 7 % 11 % 4); });
    const auto dy = with_margin<float>(out, 0, [](size_t i) { return i + 1.0f; });
    std::vector<float> y, dx;
    std::vector<int> at;
    const auto launch_it = [&] {
      y.assign(out, kNan), dx.assign(size, kNan), at.assign(out, -1);
      launch<max_pool_kernel<bug>>((out + 31) / 32, 32, 0, nullptr, s, y.data(), at.data(), x.data());
      launch<max_pool_backward_kernel<bug>>((size + 31) / 32, 32, 0, nullptr, s, dx.data(), dy.data(),
                                            at.data());
    };
    hunt.run(launch_it, [&] {
      std::vector<float> gradient(size, 0.0f);
      bool sound = true;
      for (int i = 0; i < out; ++i) {
        int where = -1;
        for (int u = 0; u < 3; ++u)
          for (int v = 0; v < 3; ++v) {
            const int row = i % places / s.out_cols() * 2 + u - 1, col = i % s.out_cols() * 2 + v - 1;
            const int here = (i / places * s.rows + row) * s.cols + col;
            if (row < 0 || row >= s.rows || col < 0 || col >= s.cols) continue;
            if (where < 0 || x[here] > x[where]) where = here;
          }
        sound = sound && y[i] == x[where];
        gradient[where] += dy[i];
      }
      return sound && dx == gradient;
    });
  }
  return hunt;
}

}  // namespace qfm::test
