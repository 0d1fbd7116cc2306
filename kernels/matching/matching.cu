// The matching memory's kernels on CUDA; the contracts are in matching.h, the rule of the
// search in match_rule.h.
//
// Maths:  partner of i = argmin_j z_i . z_j over the j of similar score, another image and reference;  noise
// = the partner's tokens, permuted.
//
// Cost of the search, for n queries, m entries and descriptors of d numbers (n = 256, m = 1024, d = 384): 2 n
// m d FLOPs (0.2 GFLOP: 3 us at 67 TFLOP/s), the descriptors once for every 8 queries (50 MB from the L2
// cache, 2 MB from memory: floor 1 us). The others move each element once, of a tensor of 256 x 196 x 384 in
// bf16 (38.5 MB, 11.5 us at 3.35 TB/s): gather_tokens and put_rows 2 passes, no FLOP (floor 23 us);
// match_sums reads three numbers an image: the launch.
#include <limits>

#include "engine/base/error.h"
#include "kernels/common/cuda_loops.cuh"
#include "kernels/matching/match_rule.h"
#include "kernels/matching/matching.h"

namespace qfm {
namespace {

constexpr int kQueries = kThreads / 32;  // of a block, one a warp
constexpr int kSpan = 128;               // entries that a block looks at
constexpr int kDepth = 32;               // numbers of a descriptor in shared memory at a time

__device__ inline Match from_lane_across(const Match& m, int distance) {
  return {__shfl_xor_sync(kWholeWarp, m.cosine, distance), __shfl_xor_sync(kWholeWarp, m.at, distance),
          __shfl_xor_sync(kWholeWarp, m.age, distance)};
}

// best (spans, queries): a warp has one query, a lane every 32nd entry of the span. A tile of 32 entries by
// kDepth numbers goes through shared memory; the odd row length lets all lanes read their entries at once.
__global__ void __launch_bounds__(kThreads)
    nearest_match_kernel(Match* best, MatchKeys queries, MatchKeys memory, int64_t dim, MatchRule rule) {
  SHARED(float, tile, [32][kDepth + 1]);
  const int64_t i = int64_t{blockIdx.x} * kQueries + warp_id();
  const int64_t begin = int64_t{blockIdx.y} * kSpan,
                end = begin + kSpan < memory.n ? begin + kSpan : memory.n;
  Match mine;
  for (int64_t first = begin; first < end; first += 32) {
    float sum = 0;
    for (int64_t depth = 0; depth < dim; depth += kDepth) {
      for (int e = warp_id(); e < 32; e += kQueries) {
        const bool inside = first + e < end && depth + lane_id() < dim;
        tile[e][lane_id()] = inside ? memory.z[(first + e) * dim + depth + lane_id()] : 0;
      }
      __syncthreads();
      const int64_t steps = dim - depth < kDepth ? dim - depth : kDepth;
      if (i < queries.n)
        for (int64_t d = 0; d < steps; ++d)
          sum = fmaf(queries.z[i * dim + depth + d], tile[lane_id()][d], sum);
      __syncthreads();
    }
    const int64_t j = first + lane_id();
    if (i < queries.n && j < end && is_candidate(queries, i, memory, j, rule))
      take_better(mine, {sum, static_cast<int32_t>(j), memory.age[j]});
  }
  for (int distance = 16; distance > 0; distance /= 2) take_better(mine, from_lane_across(mine, distance));
  if (i < queries.n && lane_id() == 0) best[blockIdx.y * queries.n + i] = mine;
}

// The best of the spans' best; nan: what a query without a partner gets for its cosine.
__global__ void __launch_bounds__(kThreads)
    best_match_kernel(int32_t* partner, float* cosine, const Match* best, int64_t spans, int64_t n,
                      float tau_s, float nan) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;  // no barrier follows
  Match mine;
  for (int64_t s = 0; s < spans; ++s) take_better(mine, best[s * n + i]);
  const bool found = mine.at >= 0 && mine.cosine <= tau_s;
  partner[i] = found ? mine.at : -1;
  cosine[i] = found ? mine.cosine : nan;
}

// A thread copies V columns of every gridDim.y-th row.
template <int V, class T>
__global__ void __launch_bounds__(kThreads)
    put_rows_kernel(T* y, const T* x, const int64_t* to, int64_t rows, int64_t cols) {
  const int64_t col = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (col >= cols) return;  // no barrier follows
#pragma unroll 1
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
    if (to[row] >= 0) store<V>(y + to[row] * cols + col, load<V>(x + row * cols + col));
}

// One warp: each lane looks up one image, lane 0 adds what they found, image after image.
__global__ void __launch_bounds__(32)
    match_sums_kernel(double* sums, const int32_t* partner, const float* cosine, const float* score,
                      const float* memory_score, int64_t n) {
  const bool adds = lane_id() == 0;
  double found = adds ? sums[1] : 0, distances = adds ? sums[2] : 0, cosines = adds ? sums[3] : 0;
  for (int64_t first = 0; first < n; first += 32) {
    const int64_t i = first + lane_id();
    const int32_t at = i < n ? partner[i] : -1;
    const float distance = at >= 0 ? fabsf(score[i] - memory_score[at]) : 0, angle = at >= 0 ? cosine[i] : 0;
    for (int lane = 0; lane < 32; ++lane) {
      const bool one = __shfl_sync(kWholeWarp, at, lane) >= 0;
      const float d = __shfl_sync(kWholeWarp, distance, lane), c = __shfl_sync(kWholeWarp, angle, lane);
      if (one) found += 1, distances += d, cosines += c;
    }
  }
  if (!adds) return;  // no barrier follows
  sums[0] += static_cast<double>(n);
  sums[1] = found, sums[2] = distances, sums[3] = cosines;
}

template <int V, class T>
__global__ void __launch_bounds__(kThreads)
    gather_tokens_kernel(T* y, const T* x, const int32_t* from, const int32_t* order, int64_t rows,
                         int64_t tokens, int64_t dim) {
  const int64_t d = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * V;
  if (d >= dim) return;  // no barrier follows
  const int64_t first = int64_t{blockIdx.y} * blockDim.y + threadIdx.y,
                step = int64_t{gridDim.y} * blockDim.y;
  for (int64_t row = first; row < rows; row += step) {
    const int64_t source = from[row / tokens];
    Pack<T, V> values{};
    if (source >= 0) values = load<V>(x + (source * tokens + order[row]) * dim + d);
    store<V>(y + row * dim + d, values);
  }
}

}  // namespace

void nearest_match(Cuda cuda, int32_t* partner, float* cosine, const MatchKeys& queries,
                   const MatchKeys& memory, int64_t dim, MatchRule rule) {
  const int64_t n = queries.n, spans = ceil_div(memory.n, kSpan);
  QFM_CHECK(memory.n < int64_t{1} << 22, "nearest_match: a memory of ", memory.n, " is out of range");
  if (n == 0) return;
  const DeviceScratch scratch(spans * n * sizeof(Match));
  if (spans > 0)
    launch<nearest_match_kernel>(
        dim3(static_cast<unsigned>(ceil_div(n, kQueries)), static_cast<unsigned>(spans)), kThreads, 0,
        cuda.stream, scratch.as<Match>(), queries, memory, dim, rule);
  launch<best_match_kernel>(ceil_div(n, kThreads), kThreads, 0, cuda.stream, partner, cosine,
                            scratch.as<Match>(), spans, n, rule.tau_s,
                            std::numeric_limits<float>::quiet_NaN());
}

template <class T>
void put_rows(Cuda cuda, T* y, const T* x, const int64_t* to, int64_t rows, int64_t cols) {
  if (rows == 0 || cols == 0) return;
  with_lanes<T>(cols, {y, x}, [&]<int V>(Lanes<V>) {
    const dim3 grid(static_cast<unsigned>(ceil_div(cols, kThreads * V)), grid_size(rows));
    launch<put_rows_kernel<V, T>>(grid, kThreads, 0, cuda.stream, y, x, to, rows, cols);
  });
}

void match_sums(Cuda cuda, double* sums, const int32_t* partner, const float* cosine, const float* score,
                const float* memory_score, int64_t n) {
  launch<match_sums_kernel>(1, 32, 0, cuda.stream, sums, partner, cosine, score, memory_score, n);
}

template <class T>
void gather_tokens(Cuda cuda, T* y, const T* x, const int32_t* from, const int32_t* order, int64_t batch,
                   int64_t tokens, int64_t dim) {
  const int64_t rows = batch * tokens;
  if (rows == 0 || dim == 0) return;
  with_lanes<T>(dim, {y, x}, [&]<int V>(Lanes<V>) {
    const dim3 block = matrix_block(dim / V);
    const dim3 grid(static_cast<unsigned>(ceil_div(dim / V, block.x)), grid_size(ceil_div(rows, block.y)));
    launch<gather_tokens_kernel<V, T>>(grid, block, 0, cuda.stream, y, x, from, order, rows, tokens, dim);
  });
}

#define QFM_INSTANTIATE(T)                                                                          \
  template void put_rows(Cuda, T*, const T*, const int64_t*, int64_t, int64_t);                     \
  template void gather_tokens(Cuda, T*, const T*, const int32_t*, const int32_t*, int64_t, int64_t, \
                              int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
