// How a simple CUDA kernel runs, the other side of parallel_loops.h: a function of every element, a sum down each
// column, a sum over everything. What a block does and the order of its sums depend on the shapes only.
#pragma once
#include <algorithm>
#include <cstdint>

#include "engine/cuda/launch.h"
#include "engine/cuda/warp_ops.h"
#include "engine/memory/memory.h"
#include "kernels/common/reduce_rows.h"

namespace qfm {

constexpr int kThreads = 256;  // of a block

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
// Blocks in a grid's y or z: kernels go round for the rest.
inline unsigned grid_size(int64_t blocks) { return static_cast<unsigned>(std::min<int64_t>(blocks, 65535)); }

template <int V, class T>
bool in_packs_of(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % (V * sizeof(T)) == 0;
}

template <int V, class F, class Y, class... X>
__device__ void map_pack(const F& f, Y* y, const Pack<X, V>&... x) {
  float ys[V];
  for (int k = 0; k < V; ++k) ys[k] = f(static_cast<float>(x.at[k])...);
  store<V>(y, round_pack<Y>(ys));
}
template <int V, class F, class Y, class... X>
__global__ void __launch_bounds__(kThreads) map_elements_kernel(F f, int64_t n, Y* y, const X*... x) {
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  for (int64_t i = first; i < n; i += int64_t{gridDim.x} * kThreads * V)
    if (i + V <= n) map_pack<V>(f, y + i, load<V>(x + i)...);
    else
      for (int64_t j = i; j < n; ++j) map_pack<1>(f, y + j, load<1>(x + j)...);
}
// y[i] = f(x0[i], x1[i], ...) for n elements, in float; y and each x have a type of their own. y may be an x.
template <class F, class Y, class... X>
void map_elements(Cuda cuda, F f, int64_t n, Y* y, const X*... x) {
  if (n == 0) return;
  constexpr int wide = static_cast<int>(16 / std::max({sizeof(Y), sizeof(X)...}));
  const auto run = [&]<int V>(Lanes<V>) {
    const int64_t blocks = std::min<int64_t>(ceil_div(n, kThreads * V), 1 << 20);
    launch<map_elements_kernel<V, F, Y, X...>>(blocks, kThreads, 0, cuda.stream, f, n, y, x...);
  };
  if (in_packs_of<wide>(y) && (in_packs_of<wide>(x) && ...)) run(Lanes<wide>{});
  else run(Lanes<1>{});
}

// A block for a matrix: x along the packs of a row, y down the rows, so that neighbours
// read neighbouring packs.
inline dim3 matrix_block(int64_t packs) {
  const int64_t x = std::max<int64_t>(1, ceil_div(packs, std::max<int64_t>(1, ceil_div(packs, kThreads))));
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(kThreads / x));
}

// Slot s of out (slots, cols) = sum over its rows [s * rows, (s + 1) * rows) of what row.add adds, over
// `count`. The rows of a slot are dealt out to the block's y, each adds its own in order, then they are added
// in order.
template <int V, class Row, class Out>
__global__ void __launch_bounds__(kThreads) column_sums_kernel(Row of, Out* out, int64_t total, int64_t rows,
                                                               int64_t slots, int64_t cols, float count) {
  SHARED(float, part, [V][kThreads]);
  const int64_t column = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * V;
  for (int64_t slot = blockIdx.y; slot < slots; slot += gridDim.y) {
    const int64_t end = (slot + 1) * rows < total ? (slot + 1) * rows : total;
    float sum[V] = {};
    if (column < cols)
      for (int64_t row = slot * rows + threadIdx.y; row < end; row += blockDim.y)
        of.template add<V>(sum, slot, row, column);
    for (int i = 0; i < V; ++i) part[i][threadIdx.y * blockDim.x + threadIdx.x] = sum[i];
    __syncthreads();
    for (int i = 0; i < V && threadIdx.y == 0 && column < cols; ++i) {
      float all = 0;
      for (unsigned y = 0; y < blockDim.y; ++y) all += part[i][y * blockDim.x + threadIdx.x];
      out[slot * cols + column + i] = Out(all / count);
    }
    __syncthreads();
  }
}
// Row: a struct with  template <int V> __device__ void add(float (&sum)[V], slot, row, column) const,  which
// adds what row `row` gives to V columns from `column` on, and may write results of its own.
template <int V, class Row, class Out>
void column_sums(Cuda cuda, Row of, Out* out, int64_t total, int64_t rows, int64_t slots, int64_t cols,
                 float count = 1) {
  dim3 block = matrix_block(ceil_div(cols, V));
  block.y = std::min(block.y, 16u);
  const dim3 grid(static_cast<unsigned>(ceil_div(ceil_div(cols, V), block.x)), grid_size(slots));
  launch<column_sums_kernel<V, Row, Out>>(grid, block, 0, cuda.stream, of, out, total, rows, slots, cols,
                                          count);
}

// y.at[p][j] = sum over i of slots[i][p][j], slots (count, parts, cols). A block has 32 columns, warp w adds
// every 32nd slot from w on, then the warps' sums are added in order.
template <int parts>
struct SlotSums {
  float* at[parts];
};
template <int parts>
__global__ void __launch_bounds__(1024)
    add_slots_kernel(SlotSums<parts> y, const float* slots, int64_t count, int64_t cols) {
  SHARED(float, part, [32][32]);
  const int64_t column = int64_t{blockIdx.x} * 32 + lane_id();
  float sum = 0;
  if (column < parts * cols)
    for (int64_t i = warp_id(); i < count; i += 32) sum += slots[i * parts * cols + column];
  part[warp_id()][lane_id()] = sum;
  __syncthreads();
  if (warp_id() > 0 || column >= parts * cols) return;
  float all = 0;
  for (int k = 0; k < 32; ++k) all += part[k][lane_id()];
  y.at[column / cols][column % cols] = all;
}
template <int parts>
void add_slots(Cuda cuda, SlotSums<parts> y, const float* slots, int64_t count, int64_t cols) {
  launch<add_slots_kernel<parts>>(ceil_div(parts * cols, 32), 1024, 0, cuda.stream, y, slots, count, cols);
}

// Rows of a slot in sums over all rows: kReduceRows or, where that would make too many slots, more.
inline int64_t slot_rows(int64_t rows) { return std::max(kReduceRows, ceil_div(rows, 1024)); }
// y[j] = sum over all rows of what `of` adds.
template <int V, class Row>
void column_sums_of_all(Cuda cuda, Row of, float* y, int64_t rows, int64_t cols) {
  const int64_t slots = ceil_div(rows, slot_rows(rows));
  if (slots <= 1) return column_sums<V>(cuda, of, y, rows, slot_rows(rows), 1, cols);
  const DeviceScratch scratch(slots * cols * sizeof(float));
  column_sums<V>(cuda, of, scratch.as<float>(), rows, slot_rows(rows), slots, cols);
  add_slots<1>(cuda, {{y}}, scratch.as<float>(), slots, cols);
}

// out[b] = finish(sum of the elements [b * range, (b + 1) * range)), in double.
template <int V, class F, class Out>
__global__ void __launch_bounds__(kThreads) sum_kernel(F f, Out* out, int64_t n, int64_t range) {
  SHARED(double, part, [kThreads / 32]);
  const int64_t begin = blockIdx.x * range, end = begin + range < n ? begin + range : n;
  double sum = 0;
  for (int64_t i = begin + threadIdx.x * V; i < end; i += kThreads * V)
    if (i + V <= end) sum += f.template at<V>(i);
    else
      for (int64_t j = i; j < end; ++j) sum += f.template at<1>(j);
  sum = warp_sum(sum);
  if (lane_id() == 0) part[warp_id()] = sum;
  __syncthreads();
  if (threadIdx.x > 0) return;
  double all = 0;
  for (int w = 0; w < kThreads / 32; ++w) all += part[w];
  out[blockIdx.x] = f.finish(all);
}
// What sums the blocks' sums.
template <class F>
struct SumOfSums {
  const double* parts;
  F of;
  template <int V>
  __device__ double at(int64_t i) const {
    return parts[i];
  }
  __device__ auto finish(double sum) const { return of.finish(sum); }
};
// The same F, its blocks' sums kept as they are.
template <class F>
struct PartOfSum {
  F of;
  template <int V>
  __device__ double at(int64_t i) const {
    return of.template at<V>(i);
  }
  __device__ double finish(double sum) const { return sum; }
};
// An F of sum_kernel and sum_all: the squares of x.
template <class T>
struct Squares {
  const T* x;
  template <int V>
  __device__ double at(int64_t i) const {
    const Pack<T, V> xs = load<V>(x + i);
    double sum = 0;
    for (int k = 0; k < V; ++k) {
      const double v = static_cast<float>(xs.at[k]);
      sum += v * v;
    }
    return sum;
  }
  __device__ double finish(double sum) const { return sum; }
};
// *out = f.finish(sum over i in [0, n) of element i), in double: one launch up to 16384 elements, then two.
// F: a struct with  template <int V> __device__ double at(i) const,  the sum of V elements from i on (at
// which it may write results of its own), and  finish.
template <int V, class F, class Out>
void sum_all(Cuda cuda, F f, Out* out, int64_t n) {
  constexpr int64_t range = 16384;
  const int64_t blocks = ceil_div(n, range);
  if (blocks <= 1) return launch<sum_kernel<V, F, Out>>(1, kThreads, 0, cuda.stream, f, out, n, range);
  const DeviceScratch scratch(blocks * sizeof(double));
  launch<sum_kernel<V, PartOfSum<F>, double>>(blocks, kThreads, 0, cuda.stream, PartOfSum<F>{f},
                                              scratch.as<double>(), n, range);
  launch<sum_kernel<1, SumOfSums<F>, Out>>(1, kThreads, 0, cuda.stream, SumOfSums<F>{scratch.as<double>(), f},
                                           out, blocks, blocks);
}

// run(Lanes<kPack<T>>{}) where rows of cols elements at all these addresses can be read in
// packs, else run(Lanes<1>{}).
template <class T, class F>
void with_lanes(int64_t cols, std::initializer_list<const T*> rows, F&& run) {
  if (in_packs<T>(cols, rows)) run(Lanes<kPack<T>>{});
  else run(Lanes<1>{});
}

}  // namespace qfm
