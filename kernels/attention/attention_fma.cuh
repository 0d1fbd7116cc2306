// Attention by tiles in true F32 arithmetic, for head sizes up to 64 (padded to 32 or 64 by zeros): it serves
// F32, and bf16 whose rows cp.async cannot copy.
//
// The maths is that of attention_forward.cuh and attention_backward.cuh. A block of 256 threads owns 64 rows
// (queries, or keys for dk and dv) and goes through the rows of the other side 64 at a time:
//   1. scores of 64 x 64, 4 x 4 a thread: thread (y, x) of 16 x 16 has rows y + 16 i and columns x + 16 j;
//   2. from them weights (P, or dS), which go through shared memory to the threads of the same 4 rows;
//   3. sums += weights times rows of the other side, 4 rows and D / 16 columns a thread.
// The 16 threads of a row are half a warp: a warp barrier orders 2 and 3.
//
// Cost of a head, S = 197, d = 64, F32: forward 202 kB and 9.9 MFLOP. The 67 TFLOP/s that an H100 has without
// tensor cores need 0.15 us for it, the memory 0.06 us: arithmetic bounds. Backward 404 kB (Q, K, V, O and dO
// read, dQ, dK and dV written) and 2.5 times the FLOPs, 25 MFLOP: 0.37 us. Tiles of 64 pad 197 to 256: 59% of
// the products are useful. Per 64 FMAs in step 1 a thread reads 8 times 16 bytes of shared memory, of which
// the 4 of its own rows are the same for 16 threads. Shared memory at D = 64: 72,704 bytes forward, 90,624
// backward. Rows of tiles are D + 4 floats: 8 threads that read 16 bytes each from 8 rows meet all 32 banks
// once. Rows of weights are 80: the two rows of a warp lie 16 banks apart.
#pragma once
#include "kernels/attention/attention_tile.cuh"

namespace qfm::attention {

constexpr int kFmaRows = 64, kFmaThreads = 256, kWeightRow = kFmaRows + 16;
template <int D>
constexpr int kFmaRow = D + 4;
template <int D>
constexpr int kFmaTile = kFmaRows* kFmaRow<D>;
constexpr int kWeights = kFmaRows * kWeightRow;

template <int D>
constexpr size_t kFmaForwardBytes = (3 * kFmaTile<D> + kWeights) * sizeof(float);
template <int D>
constexpr size_t kFmaBackwardBytes = (4 * kFmaTile<D> + kWeights + 2 * kFmaRows) * sizeof(float);

__device__ inline int fma_row(int i) { return static_cast<int>(threadIdx.x) / 16 + 16 * i; }
__device__ inline int fma_column(int j) { return static_cast<int>(threadIdx.x) % 16 + 16 * j; }

// The block reads rows [first, first + 64) of a head into a tile; rows from `end` on and columns from d on
// are zeros.
template <int D, class T>
__device__ void load_tile(float* tile, Heads<const T> from, int first, int end, int d) {
  for (int i = threadIdx.x; i < kFmaRows * D; i += kFmaThreads) {
    const int row = first + i / D, column = i % D;
    const bool there = row < end && column < d;
    tile[i / D * kFmaRow<D> + column] = there ? static_cast<float>(from.data[row * from.ld + column]) : 0.0f;
  }
}

// c[i][j] = row i of this thread in a . row j of this thread in b.
template <int D>
__device__ void dot_rows(float (&c)[4][4], const float* a, const float* b) {
#pragma unroll
  for (int i = 0; i < 16; ++i) c[i / 4][i % 4] = 0;
  for (int k = 0; k < D; k += 4) {
    Pack<float, 4> as[4], bs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      as[i] = load<4>(a + fma_row(i) * kFmaRow<D> + k);
      bs[i] = load<4>(b + fma_column(i) * kFmaRow<D> + k);
    }
#pragma unroll
    for (int e = 0; e < 64; ++e) {
      const int i = e / 16, j = e / 4 % 4;
      c[i][j] = fmaf(as[i].at[e % 4], bs[j].at[e % 4], c[i][j]);
    }
  }
}

// sums[i][j] += row i of w . column (x D / 16 + j) of the tile, through `weights` in shared memory.
template <int D>
__device__ void add_weighted(float (&sums)[4][D / 16], const float (&w)[4][4], float* weights,
                             const float* tile) {
#pragma unroll
  for (int i = 0; i < 16; ++i) weights[fma_row(i / 4) * kWeightRow + fma_column(i % 4)] = w[i / 4][i % 4];
  __syncwarp();
  for (int r = 0; r < kFmaRows; r += 4) {
    Pack<float, 4> ws[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) ws[i] = load<4>(weights + fma_row(i) * kWeightRow + r);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const auto row = load<D / 16>(tile + (r + k) * kFmaRow<D> + fma_column(0) * (D / 16));
#pragma unroll
      for (int e = 0; e < 4 * (D / 16); ++e)
        sums[e % 4][e / 4] = fmaf(ws[e % 4].at[k], row.at[e / 4], sums[e % 4][e / 4]);
    }
  }
  __syncwarp();
}

// Rows from `first` to before `end` of a head = sums times factor[row].
template <int D, class T>
__device__ void store_sums(Heads<T> to, int first, int end, int d, const float (&sums)[4][D / 16],
                           const float (&factor)[4]) {
#pragma unroll
  for (int e = 0; e < 4 * (D / 16); ++e) {
    const int row = first + fma_row(e % 4), column = fma_column(0) * (D / 16) + e / 4;
    if (row < end && column < d) to.data[row * to.ld + column] = T(sums[e % 4][e / 4] * factor[e % 4]);
  }
}

// Over the 16 threads of a row.
__device__ inline float half_warp_max(float v) {
  for (int distance = 8; distance > 0; distance /= 2) v = fmaxf(v, __shfl_xor_sync(kWholeWarp, v, distance));
  return v;
}
__device__ inline float half_warp_sum(float v) {
  for (int distance = 8; distance > 0; distance /= 2) v += __shfl_xor_sync(kWholeWarp, v, distance);
  return v;
}

// Block i takes queries 64 (i % parts) ... of head i / parts.
template <class T, int D>
__global__ void __launch_bounds__(kFmaThreads)
    attention_forward_fma(AttentionShape s, Heads<T> o, float* lse, Heads<const T> q, Heads<const T> k,
                          Heads<const T> v, float scale, int parts) {
  DYN_SHARED(float, q_tile);
  float *k_tile = q_tile + kFmaTile<D>, *v_tile = k_tile + kFmaTile<D>, *weights = v_tile + kFmaTile<D>;
  const uint32_t head = blockIdx.x / parts;
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys),
            d = static_cast<int>(s.head_dim);
  const int first = kFmaRows * static_cast<int>(blockIdx.x % parts);
  k = head_of(k, s, keys, head), v = head_of(v, s, keys, head);
  load_tile<D>(q_tile, head_of(q, s, queries, head), first, queries, d);
  const VisibleKeys<int> visible = visible_of(s, head);
  const int seen_by_block = visible.of(first + kFmaRows - 1);

  float sum_pv[4][D / 16] = {}, sum[4] = {}, top[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
  for (int key = 0; key < seen_by_block; key += kFmaRows) {
    load_tile<D>(k_tile, k, key, seen_by_block, d);
    load_tile<D>(v_tile, v, key, seen_by_block, d);
    __syncthreads();
    float p[4][4];
    dot_rows<D>(p, q_tile, k_tile);
    for (int i = 0; i < 4; ++i) {
      float new_top = top[i];
      for (int j = 0; j < 4; ++j) {
        if (key + fma_column(j) >= visible.of(first + fma_row(i))) p[i][j] = -INFINITY;
        new_top = fmaxf(new_top, p[i][j]);
      }
      new_top = half_warp_max(new_top);
      const float fade = exp2f((top[i] - new_top) * (scale * kLog2e));
      top[i] = new_top, sum[i] *= fade;
      for (int j = 0; j < D / 16; ++j) sum_pv[i][j] *= fade;
      for (int j = 0; j < 4; ++j) sum[i] += p[i][j] = exp2f((p[i][j] - new_top) * (scale * kLog2e));
    }
    add_weighted<D>(sum_pv, p, weights, v_tile);
    __syncthreads();  // the tiles have been read
  }
  float inverse[4];
  for (int i = 0; i < 4; ++i) {
    const float total = visible.keys > 0 ? half_warp_sum(sum[i]) : 1.0f;  // which divides zeros
    inverse[i] = 1 / total;
    if (const int row = first + fma_row(i); lse && row < queries && fma_column(0) == 0)
      lse[head * s.queries + row] = fmaf(top[i], scale, logf(total));
  }
  store_sums<D>(head_of(o, s, queries, head), first, queries, d, sum_pv, inverse);
}

// lse2 = lse log2(e) and delta = dO . O of 64 queries; infinity and 0 where there is none. 4 threads a query.
template <class T>
__device__ void load_statistics(float* lse2, float* delta, Heads<const T> d_o, Heads<const T> o,
                                const float* lse, int first, int queries, int d) {
  const int row = static_cast<int>(threadIdx.x) / 4, query = first + row;
  float sum = 0;
  for (int c = threadIdx.x % 4; query < queries && c < d; c += 4)
    sum = fmaf(static_cast<float>(d_o.data[query * d_o.ld + c]), static_cast<float>(o.data[query * o.ld + c]),
               sum);
  sum = row_sum(sum);
  if (threadIdx.x % 4 == 0) lse2[row] = query < queries ? lse[query] * kLog2e : INFINITY, delta[row] = sum;
}

// Block i takes keys 64 (i % parts) ... of head i / parts; its rows are keys, its columns queries.
template <class T, int D>
__global__ void __launch_bounds__(kFmaThreads)
    attention_dkv_fma(AttentionShape s, Heads<T> dk, Heads<T> dv, Heads<const T> d_o, Heads<const T> q,
                      Heads<const T> k, Heads<const T> v, Heads<const T> o, const float* lse, float scale,
                      int parts) {
  DYN_SHARED(float, k_tile);
  float *v_tile = k_tile + kFmaTile<D>, *q_tile = v_tile + kFmaTile<D>, *do_tile = q_tile + kFmaTile<D>;
  float *weights = do_tile + kFmaTile<D>, *lse2 = weights + kWeights, *delta = lse2 + kFmaRows;
  const uint32_t head = blockIdx.x / parts;
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys),
            d = static_cast<int>(s.head_dim);
  const int first = kFmaRows * static_cast<int>(blockIdx.x % parts);
  q = head_of(q, s, queries, head), o = head_of(o, s, queries, head), d_o = head_of(d_o, s, queries, head);
  const VisibleKeys<int> visible = visible_of(s, head);
  load_tile<D>(k_tile, head_of(k, s, keys, head), first, visible.keys, d);
  load_tile<D>(v_tile, head_of(v, s, keys, head), first, visible.keys, d);

  float sum_dk[4][D / 16] = {}, sum_dv[4][D / 16] = {};
  for (int query = visible.first_query(first, queries); query < queries; query += kFmaRows) {
    load_tile<D>(q_tile, q, query, queries, d);
    load_tile<D>(do_tile, d_o, query, queries, d);
    load_statistics(lse2, delta, d_o, o, lse + head * s.queries, query, queries, d);
    __syncthreads();
    float p[4][4], ds[4][4];
    dot_rows<D>(p, k_tile, q_tile);
    dot_rows<D>(ds, v_tile, do_tile);
    for (int e = 0; e < 16; ++e) {
      const int i = e / 4, j = e % 4;
      p[i][j] = query + fma_column(j) >= visible.first_query(first + fma_row(i), queries)
                    ? exp2f(fmaf(p[i][j], scale * kLog2e, -lse2[fma_column(j)]))
                    : 0.0f;
      ds[i][j] = p[i][j] * (ds[i][j] - delta[fma_column(j)]);
    }
    add_weighted<D>(sum_dv, p, weights, do_tile);
    add_weighted<D>(sum_dk, ds, weights, q_tile);
    __syncthreads();  // the tiles have been read
  }
  store_sums<D>(head_of(dk, s, keys, head), first, keys, d, sum_dk, {scale, scale, scale, scale});
  store_sums<D>(head_of(dv, s, keys, head), first, keys, d, sum_dv, {1, 1, 1, 1});
}

// Block i takes queries 64 (i % parts) ... of head i / parts.
template <class T, int D>
__global__ void __launch_bounds__(kFmaThreads)
    attention_dq_fma(AttentionShape s, Heads<T> dq, Heads<const T> d_o, Heads<const T> q, Heads<const T> k,
                     Heads<const T> v, Heads<const T> o, const float* lse, float scale, int parts) {
  DYN_SHARED(float, q_tile);
  float *do_tile = q_tile + kFmaTile<D>, *k_tile = do_tile + kFmaTile<D>, *v_tile = k_tile + kFmaTile<D>;
  float *weights = v_tile + kFmaTile<D>, *lse2 = weights + kWeights, *delta = lse2 + kFmaRows;
  const uint32_t head = blockIdx.x / parts;
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys),
            d = static_cast<int>(s.head_dim);
  const int first = kFmaRows * static_cast<int>(blockIdx.x % parts);
  k = head_of(k, s, keys, head), v = head_of(v, s, keys, head), d_o = head_of(d_o, s, queries, head);
  load_tile<D>(q_tile, head_of(q, s, queries, head), first, queries, d);
  load_tile<D>(do_tile, d_o, first, queries, d);
  load_statistics(lse2, delta, d_o, head_of(o, s, queries, head), lse + head * s.queries, first, queries, d);

  const VisibleKeys<int> visible = visible_of(s, head);
  const int seen_by_block = visible.of(first + kFmaRows - 1);

  float sum_dq[4][D / 16] = {};
  for (int key = 0; key < seen_by_block; key += kFmaRows) {
    load_tile<D>(k_tile, k, key, seen_by_block, d);
    load_tile<D>(v_tile, v, key, seen_by_block, d);
    __syncthreads();
    float p[4][4], ds[4][4];
    dot_rows<D>(p, q_tile, k_tile);
    dot_rows<D>(ds, do_tile, v_tile);
    for (int e = 0; e < 16; ++e) {
      const int i = e / 4, j = e % 4;
      p[i][j] = exp2f(fmaf(p[i][j], scale * kLog2e, -lse2[fma_row(i)]));
      ds[i][j] = key + fma_column(j) < visible.of(first + fma_row(i)) ? p[i][j] * (ds[i][j] - delta[fma_row(i)]) : 0.0f;
    }
    add_weighted<D>(sum_dq, ds, weights, k_tile);
    __syncthreads();  // the tiles have been read
  }
  store_sums<D>(head_of(dq, s, queries, head), first, queries, d, sum_dq, {scale, scale, scale, scale});
}

}  // namespace qfm::attention
