// The attention forward in bf16 on the tensor cores, for head sizes up to 64 (padded to 32 or 64 by zeros).
//
// Maths, for a query q and keys k_j:  s_j = q . k_j,  m = max s_j,  p_j = 2^(c (s_j - m)),  l = sum p_j,
//   o = sum p_j v_j / l,  lse = m scale + ln l,  with c = scale log2(e): one FMA and one ex2 for a
//   probability.
//
// Cost of a head, S = 197 queries and keys, d = 64: reads q, k, v and writes o, 4 S d 2 bytes = 101 kB; 4 S^2
// d = 9.9 MFLOP. B = 256, 6 heads: 155 MB and 15.3 GFLOP. At an H100's 3.35 TB/s memory alone takes 46 us,
// which is 330 TFLOP/s; its tensor cores, of whose 989 TFLOP/s mma.sync reaches some 60%, take 29 us with the
// padding below.
//
// A warp owns 16 queries. 197 tokens are 13 blocks of 16: (197 / 208)^2 = 90% of the products are useful;
// tiles of 64 x 128 would make it 59%.
//
// attention_forward_whole, 145 to 208 keys: a warp holds its whole rows of scores, 16 x 208, in 104 registers
// a lane, so the softmax reads them once more and needs no online correction. The block has one head's K and
// V in shared memory, from memory once, and 16 queries a warp: 69,120 bytes at D = 64. nvcc 13.0 takes 168
// registers for it on sm_90a, without spills: 3 blocks of 4 warps an SM, so that one block's copies and one
// warp's exponentials (208 x 208 a head, 16 a clock) run beside another's products. With 13 blocks the warps
// go round 4, 3, 3 and 3 times; few heads are cut in parts instead.
//
// attention_forward_tiled, any number of keys, and masks: tiles of 64 keys, the next one on its way while the warps
// work on this one; the softmax is online: sums so far fade by 2^(c (old m - new m)). Tiles that no query of the block
// sees are not read. The first tile holds a key that each query sees, unless the image has none.
#pragma once
#include "kernels/attention/attention_tile.cuh"

namespace qfm::attention {

constexpr int kForwardWarps = 4;
constexpr int kWholeBlocks = 13;       // of 16 keys: whole rows of scores
constexpr int kWholeMaskedBlocks = 4;  // of these, those that may lack keys: at least 145 are there
constexpr int kTiledBlocks = 4;        // of 16 keys in a tile

constexpr size_t forward_whole_bytes(int head_size) {
  return static_cast<size_t>(16 * (2 * kWholeBlocks + kForwardWarps) * (head_size + 8)) * sizeof(bf16);
}
constexpr size_t forward_tiled_bytes(int head_size) {
  return static_cast<size_t>(16 * (2 * 2 * kTiledBlocks + kForwardWarps) * (head_size + 8)) * sizeof(bf16);
}

// What a warp knows of its 16 queries, of which a lane sees rows g and g + 8.
template <int D>
struct QueryRows {
  uint32_t q[D / 16][4];
  float sum_pv[D / 8][4] = {};
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {};  // sum: this lane's part
};

// scores = q k^T for 16 kBlocks keys, of which row g sees the first seen[0], row g + 8 seen[1]: -infinity for the
// others. Only the last kMasked blocks may lack some.
template <int kMasked, int D, int kBlocks>
__device__ void multiply_keys(float (&scores)[kBlocks][2][4], const QueryRows<D>& rows, const bf16* k,
                              const int (&seen)[2]) {
#pragma unroll
  for (int j = 0; j < kBlocks; ++j) {
#pragma unroll
    for (int i = 0; i < 8; ++i) scores[j][i / 4][i % 4] = 0;
    multiply_transposed<D>(scores[j], rows.q, k + 16 * j * kTileRow<D>);
    if (j < kBlocks - kMasked) continue;
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (16 * j + 8 * (i / 4) + lane_id() % 4 * 2 + i % 2 >= seen[i % 4 / 2])
        scores[j][i / 4][i % 4] = -INFINITY;
  }
}

// scores = 2^(c (scores - top)), row by row; where more tiles came before, their sums fade to the new top.
template <bool kOnline, int D, int kBlocks>
__device__ void softmax_rows(float (&scores)[kBlocks][2][4], QueryRows<D>& rows, float c) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = rows.top[half];
#pragma unroll
    for (int j = 0; j < kBlocks; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) top = fmaxf(top, scores[j][i / 2][2 * half + i % 2]);
    top = row_max(top);
    if constexpr (kOnline) {
      const float fade = fast_exp2(c * (rows.top[half] - top));
      rows.sum[half] *= fade;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) rows.sum_pv[n][2 * half] *= fade, rows.sum_pv[n][2 * half + 1] *= fade;
    }
    rows.top[half] = top;
#pragma unroll
    for (int j = 0; j < kBlocks; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& p = scores[j][i / 2][2 * half + i % 2];
        p = fast_exp2(fmaf(c, p, -c * top));
        rows.sum[half] += p;
      }
  }
}

template <bool kOnline, int kMasked, int kBlocks, int D>
__device__ void attend(QueryRows<D>& rows, const bf16* k, const bf16* v, const int (&seen)[2],
                       float c) {
  float scores[kBlocks][2][4];
  multiply_keys<kMasked>(scores, rows, k, seen);
  softmax_rows<kOnline>(scores, rows, c);
#pragma unroll
  for (int j = 0; j < kBlocks; ++j) {
    uint32_t p[4];
    as_operand(p, scores[j]);
    multiply<D>(rows.sum_pv, p, v + 16 * j * kTileRow<D>);
  }
}

// Queries [first, end) of a head, 16 at most, whose log-sum-exps are lse[0], lse[1], ... (or lse is null).
template <int D>
__device__ void write_rows(Heads<bf16> o, float* lse, int first, int end, int d, const QueryRows<D>& rows,
                           float scale) {
  const float sum[2] = {row_sum(rows.sum[0]), row_sum(rows.sum[1])};
  store_result<D>(o, first, end, d, rows.sum_pv, {1 / sum[0], 1 / sum[1]});
  for (int half = 0; half < 2; ++half)
    if (const int row = first + lane_id() / 4 + 8 * half; lse && row < end && lane_id() % 4 == 0)
      lse[row] = fmaf(rows.top[half], scale, logf(sum[half]));
}

// Block i takes part i % parts of head i / parts: part_queries queries, or fewer in the last part. A warp
// fetches its next 16 while it works on these.
template <int D>
__global__ void __launch_bounds__(32 * kForwardWarps, 3)
    attention_forward_whole(AttentionShape s, Heads<bf16> o, float* lse, Heads<const bf16> q,
                            Heads<const bf16> k, Heads<const bf16> v, float scale, int parts,
                            int part_queries) {
  constexpr int kRows = 16 * kWholeBlocks;
  DYN_SHARED(bf16, k_tile);
  bf16* v_tile = k_tile + kRows * kTileRow<D>;
  bf16* q_tile = v_tile + (kRows + 16 * warp_id()) * kTileRow<D>;
  const uint32_t head = blockIdx.x / parts;
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys),
            d = static_cast<int>(s.head_dim);
  const int begin = part_queries * static_cast<int>(blockIdx.x % parts);
  const int end = begin + part_queries < queries ? begin + part_queries : queries;
  o = head_of(o, s, queries, head), q = head_of(q, s, queries, head);
  k = head_of(k, s, keys, head), v = head_of(v, s, keys, head);
  if (lse) lse += head * s.queries;

  stage_rows<D>(whole_block(), k_tile, kRows, k, 0, keys, d);
  stage_rows<D>(whole_block(), v_tile, kRows, v, 0, keys, d);
  int first = begin + 16 * warp_id();
  stage_rows<D>(whole_warp(), q_tile, 16, q, first, end, d);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  for (; first < end; first += 16 * kForwardWarps) {
    QueryRows<D> rows;
    load_operand<D>(rows.q, q_tile);
    __syncwarp();  // all lanes have read it
    stage_rows<D>(whole_warp(), q_tile, 16, q, first + 16 * kForwardWarps, end, d);
    cp_async_commit();
    attend<false, kWholeMaskedBlocks, kWholeBlocks>(rows, k_tile, v_tile, {keys, keys}, scale * kLog2e);
    write_rows(o, lse, first, end, d, rows, scale);
    cp_async_wait<0>();
    __syncwarp();
  }
}

// Block i takes part i % parts of head i / parts: 16 queries a warp. Two tiles of keys, two of values, used
// in turn.
template <int D>
__global__ void __launch_bounds__(32 * kForwardWarps, 3)
    attention_forward_tiled(AttentionShape s, Heads<bf16> o, float* lse, Heads<const bf16> q,
                            Heads<const bf16> k, Heads<const bf16> v, float scale, int parts) {
  constexpr int kRows = 16 * kTiledBlocks, kTile = kRows * kTileRow<D>;
  DYN_SHARED(bf16, tiles);
  bf16* q_tile = tiles + 4 * kTile + 16 * warp_id() * kTileRow<D>;
  const uint32_t head = blockIdx.x / parts;
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys),
            d = static_cast<int>(s.head_dim);
  const int first = 16 * (static_cast<int>(blockIdx.x % parts) * kForwardWarps + warp_id());
  o = head_of(o, s, queries, head), q = head_of(q, s, queries, head);
  k = head_of(k, s, keys, head), v = head_of(v, s, keys, head);
  if (lse) lse += head * s.queries;
  const VisibleKeys<int> visible = visible_of(s, head);
  const int seen_by_block = visible.of(first + 16 * (kForwardWarps - warp_id()) - 1),
            seen_by_warp = visible.of(first + 15);
  const int seen[2] = {visible.of(first + lane_id() / 4), visible.of(first + lane_id() / 4 + 8)};

  const auto tile_of = [&](int key) { return tiles + key / kRows % 2 * 2 * kTile; };
  const auto stage_keys = [&](int key) {
    if (key < seen_by_block) {
      stage_rows<D>(whole_block(), tile_of(key), kRows, k, key, seen_by_block, d);
      stage_rows<D>(whole_block(), tile_of(key) + kTile, kRows, v, key, seen_by_block, d);
    }
    cp_async_commit();
  };
  stage_rows<D>(whole_warp(), q_tile, 16, q, first, queries, d);
  stage_keys(0);
  QueryRows<D> rows;
  for (int key = 0; key < seen_by_block; key += kRows) {
    stage_keys(key + kRows);
    cp_async_wait<1>();  // all but what was staged just now
    __syncthreads();
    if (key == 0) load_operand<D>(rows.q, q_tile);
    if (key < seen_by_warp)
      attend<true, kTiledBlocks, kTiledBlocks>(rows, tile_of(key), tile_of(key) + kTile,
                                               {seen[0] - key, seen[1] - key}, scale * kLog2e);
    __syncthreads();  // the tile that is staged next has been read
  }
  if (visible.keys == 0) rows.sum[0] = rows.sum[1] = 1;  // which divides zeros; lse is -infinity
  if (first < queries) write_rows(o, lse, first, queries, d, rows, scale);
  cp_async_wait<0>();
}

}  // namespace qfm::attention
