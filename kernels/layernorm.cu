// Layer normalisation on CUDA; the contract is in layernorm.h.
//
// Maths, for a row x of n columns, with k = x[0]:
//   d = x - k,  m = mean(d),  rstd = 1 / sqrt(mean((d - m)^2) + eps),  h = (d - m) rstd,  y = h w + b
// and mean = k + m is saved. In a row far from zero the differences d are nearly exact, where x - mean with a
// rounded mean has few digits left.
// Backward, with g = dy w:
//   dx = rstd (g - mean(g) - h mean(g h)),  dw = sum over rows of dy h,  db = sum over rows of dy
// There d = x - mean with the saved mean, and m = mean(d) takes out what its rounding left.
//
// Cost, for M rows in elements of e bytes (M = 256 x 197, n = 384, bf16, 3.35 TB/s):
//   forward   reads x, writes y: 2 M n e bytes (77 MB: floor 23 us); 8 M n FLOPs, far below the memory's time
//   backward  reads dy and x, writes dx: 3 M n e bytes (116 MB: floor 35 us); 16 M n FLOPs
// So every element comes from memory once: a row belongs to a warp, whose later passes over it hit the L1
// cache. For dw and db each block adds its rows into its own slice of the workspace, then a second kernel
// adds the slices in order: the same bits every time, without atomics.
#include <algorithm>

#include "engine/base/error.h"
#include "engine/base/launch.h"
#include "engine/base/warp_ops.h"
#include "kernels/layernorm.h"

namespace qfm {
namespace {

constexpr int kWarps = 8;        // of a block
constexpr int kRowsPerWarp = 4;  // that the backward keeps in flight before it adds up their columns

// Lane l takes columns l V .. l V + V - 1, then the same 32 V further on.
template <class T, int V>
__global__ void __launch_bounds__(32 * kWarps)
    layernorm_forward_kernel(T* y, float* mean, float* rstd, const T* x, const T* w, const T* b, int64_t rows,
                             int cols, float eps) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp_id();
  if (row >= rows) return;  // a whole warp; no barrier follows
  x += row * cols, y += row * cols;
  const float first = static_cast<float>(x[0]);

  float sum = 0;
  for (int c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<T, V> xs = load<V>(x + c);
    for (int i = 0; i < V; ++i) sum += static_cast<float>(xs.at[i]) - first;
  }
  const float m = warp_sum(sum) / cols;

  float squares = 0;
  for (int c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<T, V> xs = load<V>(x + c);
    for (int i = 0; i < V; ++i) {
      const float d = static_cast<float>(xs.at[i]) - first - m;
      squares = fmaf(d, d, squares);
    }
  }
  const float r = 1.0f / sqrtf(warp_sum(squares) / cols + eps);

  for (int c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<T, V> xs = load<V>(x + c), ws = load<V>(w + c), bs = load<V>(b + c);
    Pack<T, V> ys;
    for (int i = 0; i < V; ++i) {
      const float h = (static_cast<float>(xs.at[i]) - first - m) * r;
      ys.at[i] = T(fmaf(h, static_cast<float>(ws.at[i]), static_cast<float>(bs.at[i])));
    }
    store<V>(y + c, ys);
  }
  if (lane_id() == 0) mean[row] = first + m, rstd[row] = r;
}

// What dx needs to know of its row: h = (x - mean - m) rstd.
struct RowSums {
  float mean, m, rstd, mean_g, mean_gh;
};

template <class T, int V>
__device__ RowSums sum_row(const T* dy, const T* x, const T* w, float mean, float rstd, int cols) {
  float sum_d = 0, sum_g = 0, sum_gd = 0;
  for (int c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<T, V> xs = load<V>(x + c), dys = load<V>(dy + c), ws = load<V>(w + c);
    for (int i = 0; i < V; ++i) {
      const float d = static_cast<float>(xs.at[i]) - mean;
      const float g = static_cast<float>(dys.at[i]) * static_cast<float>(ws.at[i]);
      sum_d += d, sum_g += g, sum_gd = fmaf(g, d, sum_gd);
    }
  }
  const float m = warp_sum(sum_d) / cols, mean_g = warp_sum(sum_g) / cols;
  return {mean, m, rstd, mean_g, (warp_sum(sum_gd) / cols - mean_g * m) * rstd};
}

// A block takes rows_per_block rows, kWarps * kRowsPerWarp at a time. First each warp sums its rows; then all
// go through the columns, 32 V at a time: dx, and in registers each lane's part of dw and db, which the block
// adds up in shared memory, warp after warp.  partial (blocks, 2, cols): dw and db of the block's rows.
template <class T, int V>
__global__ void __launch_bounds__(32 * kWarps)
    layernorm_backward_kernel(T* dx, float* partial, const T* dy, const T* x, const T* w, const float* mean,
                              const float* rstd, int64_t rows, int cols, int64_t rows_per_block) {
  SHARED(float, part, [2][kWarps][V][32]);
  const int lane = lane_id(), warp = warp_id();
  const int64_t begin = blockIdx.x * rows_per_block;
  const int64_t end = begin + rows_per_block < rows ? begin + rows_per_block : rows;
  partial += int64_t{blockIdx.x} * 2 * cols;

  for (int64_t group = begin; group < end; group += kWarps * kRowsPerWarp) {
    RowSums sums[kRowsPerWarp] = {};
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const int64_t row = group + r * kWarps + warp;
      if (row < end) sums[r] = sum_row<T, V>(dy + row * cols, x + row * cols, w, mean[row], rstd[row], cols);
    }
    for (int tile = 0; tile < cols; tile += 32 * V) {
      const int c = tile + lane * V;
      float dw[V] = {}, db[V] = {};
      for (int r = 0; r < kRowsPerWarp; ++r) {
        const int64_t row = group + r * kWarps + warp;
        if (c >= cols || row >= end) continue;
        const RowSums& s = sums[r];
        const Pack<T, V> xs = load<V>(x + row * cols + c), dys = load<V>(dy + row * cols + c),
                         ws = load<V>(w + c);
        Pack<T, V> dxs;
        for (int i = 0; i < V; ++i) {
          const float h = (static_cast<float>(xs.at[i]) - s.mean - s.m) * s.rstd;
          const float d = static_cast<float>(dys.at[i]);
          const float g = d * static_cast<float>(ws.at[i]);
          dxs.at[i] = T((g - s.mean_g - h * s.mean_gh) * s.rstd);
          dw[i] = fmaf(d, h, dw[i]), db[i] += d;
        }
        store<V>(dx + row * cols + c, dxs);
      }
      for (int i = 0; i < V; ++i) part[0][warp][i][lane] = dw[i], part[1][warp][i][lane] = db[i];
      __syncthreads();
      // Column j of the tile was lane j / V's i = j % V; both gradients at once.
      for (int j = threadIdx.x; j < 2 * 32 * V; j += 32 * kWarps) {
        const int which = j / (32 * V), column = j % (32 * V);
        if (tile + column >= cols) continue;
        float sum = 0;
        for (int k = 0; k < kWarps; ++k) sum += part[which][k][column % V][column / V];
        float& total = partial[int64_t{which} * cols + tile + column];
        total = group == begin ? sum : total + sum;
      }
      __syncthreads();
    }
  }
}

// dw, db = sums over `count` slices of partial (count, 2, cols); a block has 32 columns, a warp every 8th
// slice.
__global__ void __launch_bounds__(32 * kWarps)
    layernorm_add_partials_kernel(float* dw, float* db, const float* partial, int64_t count, int cols) {
  SHARED(float, part, [kWarps][32]);
  const int64_t column = int64_t{blockIdx.x} * 32 + lane_id();
  float sum = 0;
  if (column < 2 * int64_t{cols})
    for (int64_t i = warp_id(); i < count; i += kWarps) sum += partial[i * 2 * cols + column];
  part[warp_id()][lane_id()] = sum;
  __syncthreads();
  if (warp_id() > 0 || column >= 2 * int64_t{cols}) return;
  float total = 0;
  for (int k = 0; k < kWarps; ++k) total += part[k][lane_id()];
  (column < cols ? dw[column] : db[column - cols]) = total;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

void check_sizes(int64_t rows, int64_t cols) {
  QFM_CHECK(rows >= 0 && rows < int64_t{1} << 33 && cols >= 0 && cols < int64_t{1} << 30, "layernorm: ", rows,
            " x ", cols, " is out of range");
}

}  // namespace

template <class T>
void layernorm_forward(Cuda cuda, T* y, acc<T>* mean, acc<T>* rstd, const T* x, const T* w, const T* b,
                       int64_t rows, int64_t cols, double eps) {
  check_sizes(rows, cols);
  if (rows == 0 || cols == 0) return;
  const auto run = [&]<int V>(Lanes<V>) {
    launch<layernorm_forward_kernel<T, V>>(ceil_div(rows, kWarps), 32 * kWarps, 0, cuda.stream, y, mean, rstd,
                                           x, w, b, rows, static_cast<int>(cols), static_cast<float>(eps));
  };
  if (in_packs<T>(cols, {y, x, w, b})) run(Lanes<kPack<T>>{});
  else run(Lanes<1>{});
}

template <class T>
void layernorm_backward(Cuda cuda, T* dx, acc<T>* dw, acc<T>* db, const T* dy, const T* x, const T* w,
                        const acc<T>* mean, const acc<T>* rstd, acc<T>* workspace, int64_t rows,
                        int64_t cols) {
  check_sizes(rows, cols);
  if (cols == 0) return;
  // As many blocks as the workspace has room for slices.
  const int64_t slices = std::max<int64_t>(1, layernorm_workspace(rows, cols) / (2 * cols));
  const int64_t rows_per_block = std::max<int64_t>(1, ceil_div(rows, slices));
  const int64_t blocks = ceil_div(rows, rows_per_block);
  const auto run = [&]<int V>(Lanes<V>) {
    launch<layernorm_backward_kernel<T, V>>(blocks, 32 * kWarps, 0, cuda.stream, dx, workspace, dy, x, w,
                                            mean, rstd, rows, static_cast<int>(cols), rows_per_block);
  };
  if (blocks > 0 && in_packs<T>(cols, {dx, dy, x, w})) run(Lanes<kPack<T>>{});
  else if (blocks > 0) run(Lanes<1>{});
  launch<layernorm_add_partials_kernel>(ceil_div(2 * cols, 32), 32 * kWarps, 0, cuda.stream, dw, db,
                                        workspace, blocks, static_cast<int>(cols));
}

#define QFM_INSTANTIATE(T)                                                                              \
  template void layernorm_forward<T>(Cuda, T*, acc<T>*, acc<T>*, const T*, const T*, const T*, int64_t, \
                                     int64_t, double);                                                  \
  template void layernorm_backward<T>(Cuda, T*, acc<T>*, acc<T>*, const T*, const T*, const T*,         \
                                      const acc<T>*, const acc<T>*, acc<T>*, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
