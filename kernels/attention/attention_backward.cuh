// The attention backward in bf16 on the tensor cores, for head sizes up to 64 (padded to 32 or 64 by zeros).
//
// Maths, with P = 2^(c Q K^T - lse log2(e)) recomputed, c = scale log2(e), delta_i = dO_i . O_i:
//   dV = P^T dO,   dP = dO V^T,   dS = P (dP - delta),   dQ = scale dS K,   dK = scale dS^T Q
// delta stands for sum_j P_ij dP_ij, which the derivative of the softmax subtracts in each row.
//
// How one gets there. Five products; P and dS are needed both by rows (dQ sums over keys) and by columns (dK,
// dV sum over queries). The owner of one of the two has to add up the other from all others: generic flash
// attention does that by float atomics, so its bits change from run to run. Here nothing is split.
//
// attention_backward_whole, up to 208 queries and keys: one block owns a head. First a warp owns 16 keys: it
// keeps K, V, dK, dV of them in registers and goes through the queries, 16 at a time. P^T and dS^T come out
// of the tensor cores in the layout in which the next product takes them. dS^T, in bf16, also goes to shared
// memory, so that after one barrier each warp can own 16 queries and take dQ = dS K from it.
//
// attention_dkv_tiled and attention_dq_tiled, any number, and masks: the same two halves as kernels of their own. Each
// recomputes P and dP: seven products instead of five. Blocks of 16 x 16 scores without a query that sees a key are
// left out.
//
// Cost of a head, S = 197, d = 64: reads q, k, v, o, dO, writes dq, dk, dv: 8 S d 2 bytes = 202 kB (dO comes
// twice, the second time from a cache); 10 S^2 d = 24.8 MFLOP. B = 256, 6 heads: 310 MB and 38.1 GFLOP. At an
// H100's 3.35 TB/s memory alone takes 93 us, which is 412 TFLOP/s; its tensor cores, of whose 989 TFLOP/s
// mma.sync reaches some 60%, take 72 us with the padding to 208. Per 16 x 16 scores a warp runs 32 mma and 16
// ldmatrix_x4, 64 clocks of an SM's shared memory: about as long as the products themselves, so fewer loads
// are the next thing to try.
//
// Shared memory of a whole head: Q, dO, K of 208 rows x 144 bytes, dS^T of 208 x 432 (where V stands at
// first), 8 bytes a query: 181,376 bytes, so one block an SM, of 13 warps. 4 warps share a quarter of
// the registers, which leaves them 128 each: nvcc 13.0 takes all on sm_90a, without spills. A chip with
// less shared memory (sm_80) takes the tiled kernels for 197 tokens. Rows of dS^T are 216 elements,
// again an odd number of 16 bytes: free of bank conflicts for ldmatrix and for the 4-byte stores of the
// 8 rows of a result.
#pragma once
#include "kernels/attention/attention_tile.cuh"

namespace qfm::attention {

constexpr int kBackwardBlocks = 13;               // of 16 queries or keys in a whole head, at most
constexpr int kDsRow = 16 * kBackwardBlocks + 8;  // elements from a row of dS^T to the next
constexpr int kTiledWarps = 4;                    // of the tiled kernels, 16 rows each

// Where the accumulators of a query start, so that no later instruction subtracts lse and delta:
//   P = 2^(c (score + q . k)),  dS = P (dp + dO . v).
struct QueryStarts {
  float score;  // -lse / scale; -infinity where there is no query, which makes P = 0
  float dp;     // -delta = -dO . O
};

constexpr size_t backward_whole_bytes(int head_size, int64_t queries, int64_t keys) {
  const size_t q_rows = whole_blocks(queries), k_rows = whole_blocks(keys);
  return ((2 * q_rows + k_rows) * (head_size + 8) + k_rows * kDsRow) * sizeof(bf16) +
         q_rows * sizeof(QueryStarts);
}
constexpr size_t backward_tiled_bytes(int head_size) {
  return 16 * kTiledWarps * (2 * (head_size + 8) * sizeof(bf16) + sizeof(QueryStarts));
}

// P from an accumulator. It is at most 1 but for rounding: the minimum is for keys that are not there, which
// must not become infinite before their products with rows of zeros.
__device__ inline float probability(float c, float sum) { return fast_exp2(fminf(c * sum, 0.0f)); }

// The starts p of a block of 16 x 16 scores on the diagonal of a causal mask become -infinity, which makes P = 0, where
// the key comes after the query. transposed: rows are keys.
__device__ inline void hide_triangle(float (&p)[2][4], bool transposed) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = lane_id() / 4 + 8 * (i % 4 / 2), column = 8 * (i / 4) + lane_id() % 4 * 2 + i % 2;
    if (transposed ? column < row : row < column) p[i / 4][i % 4] = -INFINITY;
  }
}

// The starts of `rows` queries of a head. D / 8 lanes share a row.
template <int D>
__device__ void find_starts(QueryStarts* starts, int rows, Heads<const bf16> d_o, Heads<const bf16> o,
                            const float* lse, float scale, int first, int queries, int d) {
  constexpr int lanes = D / 8;
  for (int i = threadIdx.x; i / 32 * 32 < rows * lanes; i += blockDim.x) {  // whole warps: they shuffle
    const int row = i / lanes, query = first + row, column = i % lanes * 8;
    float sum = 0;
    if (row < rows && query < queries && column < d) {
      const Pack<bf16, 8> a = load<8>(d_o.data + query * d_o.ld + column);
      const Pack<bf16, 8> b = load<8>(o.data + query * o.ld + column);
      for (int n = 0; n < 8; ++n) sum = fmaf(static_cast<float>(a.at[n]), static_cast<float>(b.at[n]), sum);
    }
    for (int distance = lanes / 2; distance > 0; distance /= 2)
      sum += __shfl_xor_sync(kWholeWarp, sum, distance);
    if (row < rows && column == 0) starts[row] = {query < queries ? -lse[query] / scale : -INFINITY, -sum};
  }
}

// What a warp keeps of its 16 keys; a lane sees rows g and g + 8.
template <int D>
struct KeyRows {
  uint32_t k[D / 16][4], v[D / 16][4];
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};

  __device__ void read(const bf16* k_rows, const bf16* v_rows) {
    load_operand<D>(k, k_rows);
    load_operand<D>(v, v_rows);
  }
  // seen: 1, or 0 for padding.
  __device__ void write(Heads<bf16> to_dk, Heads<bf16> to_dv, int first, int keys, int d, float scale,
                        const float (&seen)[2]) const {
    store_result<D>(to_dk, first, keys, d, dk, {scale * seen[0], scale * seen[1]});
    store_result<D>(to_dv, first, keys, d, dv, seen);
  }
};

// Adds 16 queries to dk and dv. ds (keys x queries) is dS^T. triangle: query i of the 16 sees keys 0 .. i
// of the warp's 16.
template <int D>
__device__ void add_queries(KeyRows<D>& rows, float (&ds)[2][4], const bf16* q, const bf16* d_o,
                            const QueryStarts* starts, float c, bool triangle) {
  float p[2][4];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const QueryStarts start = starts[8 * (i / 4) + lane_id() % 4 * 2 + i % 2];
    p[i / 4][i % 4] = start.score, ds[i / 4][i % 4] = start.dp;
  }
  if (triangle) hide_triangle(p, true);
  multiply_transposed<D>(p, rows.k, q);
  multiply_transposed<D>(ds, rows.v, d_o);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    p[i / 4][i % 4] = probability(c, p[i / 4][i % 4]);
    ds[i / 4][i % 4] *= p[i / 4][i % 4];
  }
  uint32_t a[4];
  as_operand(a, p);
  multiply<D>(rows.dv, a, d_o);
  as_operand(a, ds);
  multiply<D>(rows.dk, a, q);
}

template <int D>
__global__ void __launch_bounds__(32 * kBackwardBlocks, 1)
    attention_backward_whole(AttentionShape s, Heads<bf16> dq, Heads<bf16> dk, Heads<bf16> dv,
                             Heads<const bf16> d_o, Heads<const bf16> q, Heads<const bf16> k,
                             Heads<const bf16> v, Heads<const bf16> o, const float* lse, float scale) {
  const uint32_t head = blockIdx.x;
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys);
  const int d = static_cast<int>(s.head_dim), first = 16 * warp_id();  // of this warp's keys, then queries
  const auto of_queries = [&](auto x) { return head_of(x, s, queries, head); };
  const auto of_keys = [&](auto x) { return head_of(x, s, keys, head); };

  const int q_rows = whole_blocks(queries), k_rows = whole_blocks(keys);
  DYN_SHARED(QueryStarts, starts);
  bf16 *q_tile = reinterpret_cast<bf16*>(starts + q_rows), *do_tile = q_tile + q_rows * kTileRow<D>;
  bf16 *k_tile = do_tile + q_rows * kTileRow<D>, *ds_tile = k_tile + k_rows * kTileRow<D>, *v_tile = ds_tile;
  stage_rows<D>(whole_block(), k_tile, k_rows, of_keys(k), 0, keys, d);
  stage_rows<D>(whole_block(), v_tile, k_rows, of_keys(v), 0, keys, d);
  stage_rows<D>(whole_block(), q_tile, q_rows, of_queries(q), 0, queries, d);
  stage_rows<D>(whole_block(), do_tile, q_rows, of_queries(d_o), 0, queries, d);
  cp_async_commit();
  find_starts<D>(starts, q_rows, of_queries(d_o), of_queries(o), lse + head * s.queries, scale, 0, queries,
                 d);
  cp_async_wait<0>();
  __syncthreads();

  KeyRows<D> rows;
  if (first < keys) rows.read(k_tile + first * kTileRow<D>, v_tile + first * kTileRow<D>);
  __syncthreads();  // V has been read: dS takes its place
  if (first < keys) {
    for (int query = 0; query < queries; query += 16) {
      float ds[2][4];
      add_queries<D>(rows, ds, q_tile + query * kTileRow<D>, do_tile + query * kTileRow<D>, starts + query,
                     scale * kLog2e, false);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = first + lane_id() / 4 + 8 * (i % 2), column = query + 8 * (i / 2) + lane_id() % 4 * 2;
        *reinterpret_cast<uint32_t*>(ds_tile + key * kDsRow + column) =
            pack_bf16(ds[i / 2][2 * (i % 2)], ds[i / 2][2 * (i % 2) + 1]);
      }
    }
    rows.write(of_keys(dk), of_keys(dv), first, keys, d, scale, {1, 1});
  }
  __syncthreads();
  if (first < queries) {
    float sum_dq[D / 8][4] = {};
    for (int key = 0; key < keys; key += 16) {
      uint32_t r[4];
      ldmatrix_x4_trans(r, block_row(ds_tile + key * kDsRow + first, kDsRow));
      const uint32_t ds[4] = {r[0], r[2], r[1], r[3]};
      multiply<D>(sum_dq, ds, k_tile + key * kTileRow<D>);
    }
    store_result<D>(of_queries(dq), first, queries, d, sum_dq, {scale, scale});
  }
}

// dk and dv of 64 keys: block i takes keys 64 (i % parts) ... of head i / parts.
template <int D>
__global__ void __launch_bounds__(32 * kTiledWarps, 3)
    attention_dkv_tiled(AttentionShape s, Heads<bf16> dk, Heads<bf16> dv, Heads<const bf16> d_o,
                        Heads<const bf16> q, Heads<const bf16> k, Heads<const bf16> v, Heads<const bf16> o,
                        const float* lse, float scale, int parts) {
  constexpr int kRows = 16 * kTiledWarps;
  const uint32_t head = blockIdx.x / parts;
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys);
  const int d = static_cast<int>(s.head_dim), first = kRows * static_cast<int>(blockIdx.x % parts);
  const int own = 16 * warp_id();
  q = head_of(q, s, queries, head), o = head_of(o, s, queries, head), d_o = head_of(d_o, s, queries, head);
  dk = head_of(dk, s, keys, head), k = head_of(k, s, keys, head);
  dv = head_of(dv, s, keys, head), v = head_of(v, s, keys, head);
  lse += head * s.queries;
  const VisibleKeys<int> visible = visible_of(s, head);
  const int from = visible.first_query(first + own, queries);  // a multiple of 16, or all

  DYN_SHARED(QueryStarts, starts);
  bf16 *q_tile = reinterpret_cast<bf16*>(starts + kRows), *do_tile = q_tile + kRows * kTileRow<D>;
  // K and V pass through the tiles of Q and dO on their way to registers.
  stage_rows<D>(whole_block(), q_tile, kRows, k, first, visible.keys, d);
  stage_rows<D>(whole_block(), do_tile, kRows, v, first, visible.keys, d);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  KeyRows<D> rows;
  rows.read(q_tile + own * kTileRow<D>, do_tile + own * kTileRow<D>);
  // A multiple of kRows, or all queries.
  for (int query = visible.first_query(first, queries); query < queries; query += kRows) {
    __syncthreads();  // the tiles have been read
    stage_rows<D>(whole_block(), q_tile, kRows, q, query, queries, d);
    stage_rows<D>(whole_block(), do_tile, kRows, d_o, query, queries, d);
    cp_async_commit();
    find_starts<D>(starts, kRows, d_o, o, lse, scale, query, queries, d);
    cp_async_wait<0>();
    __syncthreads();
    for (int row = 0; row < kRows && query + row < queries; row += 16) {
      if (query + row < from) continue;
      float ds[2][4];
      add_queries<D>(rows, ds, q_tile + row * kTileRow<D>, do_tile + row * kTileRow<D>, starts + row,
                     scale * kLog2e, visible.causal && query + row == first + own);
    }
  }
  const int key = first + own + lane_id() / 4;
  rows.write(dk, dv, first + own, keys, d, scale,
             {key < visible.keys ? 1.0f : 0.0f, key + 8 < visible.keys ? 1.0f : 0.0f});
}

// dq of 64 queries: block i takes queries 64 (i % parts) ... of head i / parts.
template <int D>
__global__ void __launch_bounds__(32 * kTiledWarps, 3)
    attention_dq_tiled(AttentionShape s, Heads<bf16> dq, Heads<const bf16> d_o, Heads<const bf16> q,
                       Heads<const bf16> k, Heads<const bf16> v, Heads<const bf16> o, const float* lse,
                       float scale, int parts) {
  constexpr int kRows = 16 * kTiledWarps;
  const uint32_t head = blockIdx.x / parts;
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys);
  const int d = static_cast<int>(s.head_dim), first = kRows * static_cast<int>(blockIdx.x % parts);
  const int own = 16 * warp_id();
  q = head_of(q, s, queries, head), o = head_of(o, s, queries, head), d_o = head_of(d_o, s, queries, head);
  dq = head_of(dq, s, queries, head), k = head_of(k, s, keys, head), v = head_of(v, s, keys, head);
  lse += head * s.queries;
  const VisibleKeys<int> visible = visible_of(s, head);
  const int seen_by_block = visible.of(first + kRows - 1), seen_by_warp = visible.of(first + own + 15);

  DYN_SHARED(QueryStarts, starts);
  bf16 *k_tile = reinterpret_cast<bf16*>(starts + kRows), *v_tile = k_tile + kRows * kTileRow<D>;
  // Q and dO pass through the tiles of K and V on their way to registers.
  stage_rows<D>(whole_block(), k_tile, kRows, q, first, queries, d);
  stage_rows<D>(whole_block(), v_tile, kRows, d_o, first, queries, d);
  cp_async_commit();
  find_starts<D>(starts, kRows, d_o, o, lse, scale, first, queries, d);
  cp_async_wait<0>();
  __syncthreads();
  uint32_t own_q[D / 16][4], own_do[D / 16][4];
  load_operand<D>(own_q, k_tile + own * kTileRow<D>);
  load_operand<D>(own_do, v_tile + own * kTileRow<D>);
  const int row = own + lane_id() / 4;
  const QueryStarts start[2] = {starts[row], starts[row + 8]};
  float sum_dq[D / 8][4] = {};
  for (int tile = 0; tile < seen_by_block; tile += kRows) {
    __syncthreads();  // the tiles have been read
    stage_rows<D>(whole_block(), k_tile, kRows, k, tile, seen_by_block, d);
    stage_rows<D>(whole_block(), v_tile, kRows, v, tile, seen_by_block, d);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    for (int key = 0; key < kRows && tile + key < seen_by_warp; key += 16) {
      float p[2][4], ds[2][4];
#pragma unroll
      for (int i = 0; i < 8; ++i)
        p[i / 4][i % 4] = start[i % 4 / 2].score, ds[i / 4][i % 4] = start[i % 4 / 2].dp;
      if (visible.causal && tile + key == first + own) hide_triangle(p, false);
      multiply_transposed<D>(p, own_q, k_tile + key * kTileRow<D>);
      multiply_transposed<D>(ds, own_do, v_tile + key * kTileRow<D>);
#pragma unroll
      for (int i = 0; i < 8; ++i) ds[i / 4][i % 4] *= probability(scale * kLog2e, p[i / 4][i % 4]);
      uint32_t a[4];
      as_operand(a, ds);
      multiply<D>(sum_dq, a, k_tile + key * kTileRow<D>);
    }
  }
  store_result<D>(dq, first + own, queries, d, sum_dq, {scale, scale});
}

}  // namespace qfm::attention
