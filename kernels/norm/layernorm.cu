// Layer normalisation on CUDA, also with the residual and LayerScale before it; the contracts
// are in layernorm.h.
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
//   with residual and branch: 4 M n e forward (46 us), 6 M n e backward (69 us); 5 and 9 by
//   kernels of their own
// So every element comes from memory once: 8, 16 or 32 lanes keep a row in registers, kPacks packs each,
// and a warp has several rows in flight. Forward a pack is 16 bytes (384 bf16 are 3 packs for 16 lanes, 192
// for 8). Backward it is 4 elements (384 are 3 packs for 32 lanes): a lane sums 2 or 3 gradients for each
// column that it has, and with 24 columns those sums left room for one block an SM. Rows that do not fit
// belong to a warp that reads them again, from the L1 cache. For dw, db and dgamma each block adds its rows
// into its own slice of the workspace, then a second kernel adds the slices in order: the same bits every
// time, without atomics.
#include "engine/base/error.h"
#include "kernels/norm/layernorm.cuh"
#include "kernels/norm/layernorm.h"

namespace qfm {
namespace {

constexpr int kPacks = 3;  // of a lane, in registers
constexpr int kWarps = kThreads / 32;
constexpr int kRowsPerWarp =
    4;  // that the backward of any rows keeps in flight before it adds up their columns

// The sum over each group of L lanes, the same bits in each.
template <int L>
__device__ float group_sum(float v) {
  for (int distance = L / 2; distance > 0; distance /= 2) v += __shfl_xor_sync(kWholeWarp, v, distance);
  return v;
}

// L lanes have a row; lane l its packs l, l + L, l + 2 L.
template <class T, int L>
__global__ void __launch_bounds__(kThreads, 4) layernorm_forward_kernel(NormForward<T> p) {
  constexpr int V = kPack<T>;
  const int lane = threadIdx.x % L;
  const int64_t number = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / L, row = number * p.cols;
  const bool inside = number < p.rows;
  const auto column = [&](int k) { return (lane + k * L) * V; };

  float d[kPacks][V] = {}, first = 0, sum = 0, squares = 0;
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    if (!inside || column(k) >= p.cols) continue;
    const Pack<T, V> xs = p.template pack<V>(row, column(k));
    if (p.sum) store<V>(p.sum + row + column(k), xs);
    for (int i = 0; i < V; ++i) d[k][i] = static_cast<float>(xs.at[i]);
  }
  first = __shfl_sync(kWholeWarp, d[0][0], 0, L);
#pragma unroll
  for (int k = 0; k < kPacks; ++k)
    for (int i = 0; i < V && column(k) < p.cols; ++i) sum += d[k][i] -= first;
  const float m = group_sum<L>(sum) / p.cols;
#pragma unroll
  for (int k = 0; k < kPacks; ++k)
    for (int i = 0; i < V && column(k) < p.cols; ++i) d[k][i] -= m, squares = fmaf(d[k][i], d[k][i], squares);
  const float r = 1.0f / sqrtf(group_sum<L>(squares) / p.cols + p.eps);
#pragma unroll
  for (int k = 0; k < kPacks; ++k)
    if (inside && column(k) < p.cols) p.write(row, column(k), d[k], r);
  if (inside && lane == 0) p.mean[number] = first + m, p.rstd[number] = r;
}

// Any rows: lane l takes columns l V .. l V + V - 1, then the same 32 V further on.
template <class T, int V>
__global__ void __launch_bounds__(kThreads) layernorm_forward_any_kernel(NormForward<T> p) {
  const int64_t number = int64_t{blockIdx.x} * kWarps + warp_id(), row = number * p.cols;
  if (number >= p.rows) return;  // a whole warp; no barrier follows
  const float first = static_cast<float>(p.template pack<1>(row, 0).at[0]);

  float sum = 0, squares = 0;
  for (int c = lane_id() * V; c < p.cols; c += 32 * V) {
    const Pack<T, V> xs = p.template pack<V>(row, c);
    if (p.sum) store<V>(p.sum + row + c, xs);
    for (int i = 0; i < V; ++i) sum += static_cast<float>(xs.at[i]) - first;
  }
  const float m = warp_sum(sum) / p.cols;
  for (int c = lane_id() * V; c < p.cols; c += 32 * V) {
    const Pack<T, V> xs = p.template pack<V>(row, c);
    for (int i = 0; i < V; ++i) {
      const float d = static_cast<float>(xs.at[i]) - first - m;
      squares = fmaf(d, d, squares);
    }
  }
  const float r = 1.0f / sqrtf(warp_sum(squares) / p.cols + p.eps);
  for (int c = lane_id() * V; c < p.cols; c += 32 * V) {
    const Pack<T, V> xs = p.template pack<V>(row, c);
    float d[V];
    for (int i = 0; i < V; ++i) d[i] = static_cast<float>(xs.at[i]) - first - m;
    p.write(row, c, d, r);
  }
  if (lane_id() == 0) p.mean[number] = first + m, p.rstd[number] = r;
}

// A block takes rows_per_block rows, one for L lanes at a time. The sums down its columns stay in registers,
// each group of lanes its own, until the last row; then the block adds them up in shared memory, group by group.
// Packs of V elements: the sums of 4 leave registers for two blocks an SM, those of 8 (rows of 385 to 768
// bf16) for two of half the threads.
constexpr int kBackwardPack = 4;
template <int V>
constexpr int kBackwardThreads = kThreads* kBackwardPack / V;
template <class T, int V, int L, bool with_branch>
__global__ void __launch_bounds__(kBackwardThreads<V>, 2) layernorm_backward_kernel(NormBackward<T> p) {
  constexpr int kGroups = kBackwardThreads<V> / L;
  using Grad = GradPack<T, V, with_branch>;
  SHARED(float, part, [V][kBackwardThreads<V>]);
  const int lane = threadIdx.x % L, group = threadIdx.x / L;
  const int64_t begin = blockIdx.x * p.rows_per_block;
  const int64_t end = begin + p.rows_per_block < p.rows ? begin + p.rows_per_block : p.rows;
  const auto column = [&](int k) { return (lane + k * L) * V; };

  Pack<T, V> ws[kPacks];
#pragma unroll
  for (int k = 0; k < kPacks; ++k)
    if (column(k) < p.cols) ws[k] = load<V>(p.w + column(k));
  float parts[kPacks][Grad::kParts][V] = {};
  for (int64_t first = begin; first < end; first += kGroups) {
    const int64_t number = first + group, row = number * p.cols;
    const bool inside = number < end;
    const float mean = inside ? p.mean[number] : 0, rstd = inside ? p.rstd[number] : 0;
    Grad packs[kPacks];
    RowSums sums;
#pragma unroll
    for (int k = 0; k < kPacks; ++k)
      if (inside && column(k) < p.cols) packs[k].read(p, row + column(k));
#pragma unroll
    for (int k = 0; k < kPacks; ++k)
      if (inside && column(k) < p.cols) sums.add(packs[k].x, packs[k].dy, ws[k], mean);
    sums = {group_sum<L>(sums.d), group_sum<L>(sums.g), group_sum<L>(sums.gd)};
    const RowMeans means(sums, mean, rstd, p.cols);
#pragma unroll
    for (int k = 0; k < kPacks; ++k)
      if (inside && column(k) < p.cols) packs[k].write(p, row, column(k), means, ws[k], parts[k]);
  }

  float* partial = p.partial + int64_t{blockIdx.x} * Grad::kParts * p.cols;
#pragma unroll
  for (int k = 0; k < kPacks; ++k)
#pragma unroll
    for (int q = 0; q < Grad::kParts; ++q) {
      for (int i = 0; i < V; ++i) part[i][threadIdx.x] = parts[k][q][i];
      __syncthreads();
      for (int j = threadIdx.x; j < L * V; j += kBackwardThreads<V>) {  // of the L V columns that are here
        const int c = k * L * V + j;
        if (c >= p.cols) break;
        float sum = 0;
        for (int g = 0; g < kGroups; ++g) sum += part[j % V][g * L + j / V];
        partial[q * p.cols + c] = sum;
      }
      __syncthreads();
    }
}

// Any rows: kWarps * kRowsPerWarp at a time. First each warp sums its rows; then all go through the columns,
// 32 V at a time: gradients, and in registers each lane's part of the column sums, which the block adds up in
// shared memory, warp after warp.
template <class T, int V, bool with_branch>
__global__ void __launch_bounds__(kThreads) layernorm_backward_any_kernel(NormBackward<T> p) {
  using Grad = GradPack<T, V, with_branch>;
  SHARED(float, part, [Grad::kParts][kWarps][V][32]);
  const int lane = lane_id(), warp = warp_id();
  const int64_t begin = blockIdx.x * p.rows_per_block;
  const int64_t end = begin + p.rows_per_block < p.rows ? begin + p.rows_per_block : p.rows;
  float* partial = p.partial + int64_t{blockIdx.x} * Grad::kParts * p.cols;

  for (int64_t group = begin; group < end; group += kWarps * kRowsPerWarp) {
    const auto number = [&](int r) { return group + r * kWarps + warp; };
    RowSums sums[kRowsPerWarp];
    for (int r = 0; r < kRowsPerWarp; ++r) {
      if (number(r) >= end) continue;
      RowSums mine;
      for (int c = lane * V; c < p.cols; c += 32 * V) {
        const int64_t at = number(r) * p.cols + c;
        mine.add(load<V>(p.x + at), load<V>(p.dy + at), load<V>(p.w + c), p.mean[number(r)]);
      }
      sums[r] = {warp_sum(mine.d), warp_sum(mine.g), warp_sum(mine.gd)};
    }
    for (int tile = 0; tile < p.cols; tile += 32 * V) {
      const int c = tile + lane * V;
      float parts[Grad::kParts][V] = {};
      for (int r = 0; r < kRowsPerWarp; ++r) {
        if (c >= p.cols || number(r) >= end) continue;
        Grad pack;
        pack.read(p, number(r) * p.cols + c);
        const RowMeans means(sums[r], p.mean[number(r)], p.rstd[number(r)], p.cols);
        pack.write(p, number(r) * p.cols, c, means, load<V>(p.w + c), parts);
      }
      for (int q = 0; q < Grad::kParts; ++q)
        for (int i = 0; i < V; ++i) part[q][warp][i][lane] = parts[q][i];
      __syncthreads();
      // Column j of the tile was lane j / V's i = j % V; all gradients at once.
      for (int j = threadIdx.x; j < Grad::kParts * 32 * V; j += kThreads) {
        const int q = j / (32 * V), at = j % (32 * V);
        if (tile + at >= p.cols) continue;
        float sum = 0;
        for (int k = 0; k < kWarps; ++k) sum += part[q][k][at % V][at / V];
        float& total = partial[int64_t{q} * p.cols + tile + at];
        total = group == begin ? sum : total + sum;
      }
      __syncthreads();
    }
  }
}

void check_sizes(int64_t rows, int64_t cols) {
  QFM_CHECK(rows >= 0 && rows < int64_t{1} << 33 && cols >= 0 && cols < int64_t{1} << 30, "layernorm: ", rows,
            " x ", cols, " is out of range");
}

// run(Lanes<L>{}) with the fewest lanes, `least` at least, whose registers hold a row in packs of V; false
// where none do.
template <int V, int least, class T, class F>
bool with_row_lanes(int64_t cols, std::initializer_list<const T*> rows, F&& run) {
  constexpr int64_t most = kPacks * V;  // of a lane
  if (!in_packs<T>(cols, rows) || cols > 32 * most) return false;
  if constexpr (least < 32)
    if (cols <= least * most) return run(Lanes<least>{}), true;
  if constexpr (least < 16)
    if (cols <= 2 * least * most) return run(Lanes<2 * least>{}), true;
  run(Lanes<32>{});
  return true;
}

template <class T>
void forward(Cuda cuda, const NormForward<T>& p) {
  if (p.rows == 0 || p.cols == 0) return;
  const auto pointers = {
      static_cast<const T*>(p.y), static_cast<const T*>(p.sum), p.x, p.branch, p.gamma, p.w, p.b};
  if (with_row_lanes<kPack<T>, 8>(p.cols, pointers, [&]<int L>(Lanes<L>) {
        launch<layernorm_forward_kernel<T, L>>(ceil_div(p.rows, kThreads / L), kThreads, 0, cuda.stream, p);
      }))
    return;
  with_lanes<T>(p.cols, pointers, [&]<int V>(Lanes<V>) {
    launch<layernorm_forward_any_kernel<T, V>>(ceil_div(p.rows, kWarps), kThreads, 0, cuda.stream, p);
  });
}

// p.partial has room for layernorm_workspace's elements, or half as many again with a branch.
template <bool with_branch, class T>
void backward(Cuda cuda, NormBackward<T> p, SlotSums<with_branch ? 3 : 2> sums) {
  p.rows_per_block = slot_rows(p.rows);
  const int64_t blocks = ceil_div(p.rows, p.rows_per_block);
  const auto pointers = {static_cast<const T*>(p.dx),
                         static_cast<const T*>(p.dbranch),
                         p.dy,
                         p.dsum,
                         p.x,
                         p.branch,
                         p.gamma,
                         p.w};
  const auto in_registers = [&]<int V, int least>(Lanes<V>, Lanes<least>) {
    return with_row_lanes<V, least>(p.cols, pointers, [&]<int L>(Lanes<L>) {
      launch<layernorm_backward_kernel<T, V, L, with_branch>>(blocks, kBackwardThreads<V>, 0, cuda.stream, p);
    });
  };
  const auto any = [&]<int V>(Lanes<V>) {
    launch<layernorm_backward_any_kernel<T, V, with_branch>>(blocks, kThreads, 0, cuda.stream, p);
  };
  if (blocks > 0 && !in_registers(Lanes<kBackwardPack>{}, Lanes<8>{}) &&
      !in_registers(Lanes<kPack<T>>{}, Lanes<32>{}))
    with_lanes<T>(p.cols, pointers, any);
  add_slots(cuda, sums, p.partial, blocks, p.cols);
}

}  // namespace

template <class T>
void layernorm_forward(Cuda cuda, T* y, acc<T>* mean, acc<T>* rstd, const T* x, const T* w, const T* b,
                       int64_t rows, int64_t cols, double eps) {
  check_sizes(rows, cols);
  forward<T>(cuda, {y, nullptr, mean, rstd, x, nullptr, nullptr, w, b, rows, static_cast<int>(cols),
                    static_cast<float>(eps)});
}

template <class T>
void layernorm_backward(Cuda cuda, T* dx, acc<T>* dw, acc<T>* db, const T* dy, const T* x, const T* w,
                        const acc<T>* mean, const acc<T>* rstd, acc<T>* workspace, int64_t rows,
                        int64_t cols) {
  check_sizes(rows, cols);
  if (cols == 0) return;
  backward<false, T>(cuda,
                     {dx, nullptr, workspace, dy, nullptr, x, nullptr, nullptr, w, mean, rstd, rows, 0,
                      static_cast<int>(cols)},
                     {{dw, db}});
}

template <class T>
void residual_layernorm_forward(Cuda cuda, T* sum, T* y, acc<T>* mean, acc<T>* rstd, const T* x,
                                const T* gamma, const T* residual, const T* w, const T* b, int64_t rows,
                                int64_t cols, double eps) {
  check_sizes(rows, cols);
  forward<T>(cuda, {y, sum, mean, rstd, residual, x, gamma, w, b, rows, static_cast<int>(cols),
                    static_cast<float>(eps)});
}

template <class T>
void residual_layernorm_backward(Cuda cuda, T* dsum, T* dx, acc<T>* dgamma, acc<T>* dw, acc<T>* db,
                                 const T* dy, const T* dsum_in, const T* sum, const T* x, const T* gamma,
                                 const T* w, const acc<T>* mean, const acc<T>* rstd, int64_t rows,
                                 int64_t cols) {
  check_sizes(rows, cols);
  if (cols == 0) return;
  const DeviceScratch scratch(layernorm_workspace(rows, cols) / 2 * 3 * sizeof(float));
  NormBackward<T> p{dsum, nullptr, scratch.as<float>(),   dy, dsum_in, sum, nullptr, nullptr, w, mean, rstd,
                    rows, 0,       static_cast<int>(cols)};
  if (!gamma) return backward<false>(cuda, p, {{dw, db}});
  p.dbranch = dx, p.branch = x, p.gamma = gamma;
  backward<true>(cuda, p, {{dw, db, dgamma}});
}

#define QFM_INSTANTIATE(T)                                                                                  \
  template void layernorm_forward<T>(Cuda, T*, acc<T>*, acc<T>*, const T*, const T*, const T*, int64_t,     \
                                     int64_t, double);                                                      \
  template void layernorm_backward<T>(Cuda, T*, acc<T>*, acc<T>*, const T*, const T*, const T*,             \
                                      const acc<T>*, const acc<T>*, acc<T>*, int64_t, int64_t);             \
  template void residual_layernorm_forward<T>(Cuda, T*, T*, acc<T>*, acc<T>*, const T*, const T*, const T*, \
                                              const T*, const T*, int64_t, int64_t, double);                \
  template void residual_layernorm_backward<T>(Cuda, T*, T*, acc<T>*, acc<T>*, acc<T>*, const T*, const T*, \
                                               const T*, const T*, const T*, const T*, const acc<T>*,       \
                                               const acc<T>*, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
