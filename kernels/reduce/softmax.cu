// Softmax over the last dimension on CUDA; the contract is in softmax.h. The attention kernels
// have their own.
//
// Maths, for a row x:  y = exp(x - max x) / sum exp(x - max x);  backward  dx = y (dy - sum(dy y)).
// Cost, for M rows of n elements of e bytes (M = 256 x 6 x 197, n = 197, bf16, 3.35 TB/s): forward 2 M n e
// bytes (238 MB: floor 71 us), some 10 FLOPs an element; backward 3 M n e (358 MB: 107 us), 4 FLOPs. A row
// belongs to a warp, whose later passes over it hit the L1 cache.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/reduce/softmax.h"

namespace qfm {
namespace {

constexpr int kWarps = kThreads / 32;

template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    softmax_forward_kernel(T* y, const T* x, int64_t rows, int64_t cols) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp_id();
  if (row >= rows) return;  // a whole warp; no barrier follows
  x += row * cols, y += row * cols;
  float most = -INFINITY, sum = 0;
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<T, V> xs = load<V>(x + c);
    for (int i = 0; i < V; ++i) most = fmaxf(most, static_cast<float>(xs.at[i]));
  }
  most = warp_max(most);
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<T, V> xs = load<V>(x + c);
    for (int i = 0; i < V; ++i) sum += expf(static_cast<float>(xs.at[i]) - most);
  }
  sum = warp_sum(sum);
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    Pack<T, V> ys = load<V>(x + c);
    for (int i = 0; i < V; ++i) ys.at[i] = T(expf(static_cast<float>(ys.at[i]) - most) / sum);
    store<V>(y + c, ys);
  }
}

template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    softmax_backward_kernel(T* dx, const T* dy, const T* y, int64_t rows, int64_t cols) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp_id();
  if (row >= rows) return;  // a whole warp; no barrier follows
  dx += row * cols, dy += row * cols, y += row * cols;
  float dot = 0;
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<T, V> dys = load<V>(dy + c), ys = load<V>(y + c);
    for (int i = 0; i < V; ++i) dot = fmaf(static_cast<float>(dys.at[i]), static_cast<float>(ys.at[i]), dot);
  }
  dot = warp_sum(dot);
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<T, V> dys = load<V>(dy + c), ys = load<V>(y + c);
    Pack<T, V> dxs;
    for (int i = 0; i < V; ++i)
      dxs.at[i] = T(static_cast<float>(ys.at[i]) * (static_cast<float>(dys.at[i]) - dot));
    store<V>(dx + c, dxs);
  }
}

}  // namespace

template <class T>
void softmax_forward(Cuda cuda, T* y, const T* x, int64_t rows, int64_t cols) {
  if (rows == 0 || cols == 0) return;
  with_lanes<T>(cols, {y, x}, [&]<int V>(Lanes<V>) {
    launch<softmax_forward_kernel<T, V>>(ceil_div(rows, kWarps), kThreads, 0, cuda.stream, y, x, rows, cols);
  });
}

template <class T>
void softmax_backward(Cuda cuda, T* dx, const T* dy, const T* y, int64_t rows, int64_t cols) {
  if (rows == 0 || cols == 0) return;
  with_lanes<T>(cols, {dx, dy, y}, [&]<int V>(Lanes<V>) {
    launch<softmax_backward_kernel<T, V>>(ceil_div(rows, kWarps), kThreads, 0, cuda.stream, dx, dy, y, rows,
                                          cols);
  });
}

#define QFM_INSTANTIATE(T)                                             \
  template void softmax_forward(Cuda, T*, const T*, int64_t, int64_t); \
  template void softmax_backward(Cuda, T*, const T*, const T*, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
