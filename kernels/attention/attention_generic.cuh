// Attention for any sizes, on CUDA: one warp for a query, or for a key in the backward. It serves few queries
// (those of the query decoder: 6 x 6 and 6 x 196) and head sizes that the tiled kernels do not take.
//
// A warp keeps its own row and its sums in shared memory and goes through the other rows 32 at a time: first
// each lane takes one of them and finds its probability (a dot product of length d), then each lane takes
// columns and adds the 32 rows, weighted, to its sums. The softmax is online: when a larger score appears,
// what was summed so far fades by exp(old top - new top).
//
// Cost, for B H heads of 6 queries and 196 keys, d = 64, bf16: K and V are read once from memory (50 kB a
// head, then from the L1 and L2 caches for the other queries), 0.3 MFLOP a head: bound by memory, 15 ns a
// head at 3.35 TB/s. Backward: dK and dV are written too (100 kB, 30 ns), 2.5 times the FLOPs (3.5 with the
// scores that dQ and dK, dV each find anew). The dot products read 16 bytes a lane where rows are aligned (V
// = 8).
#pragma once
#include "kernels/attention/attention_tile.cuh"

namespace qfm::attention {

constexpr int kGenericWarps = 4;  // of a block

// x . row, n elements; x is shared by the warp.
template <int V, class T>
__device__ float dot(const float* x, const T* row, int n) {
  float sum = 0;
  for (int c = 0; c < n; c += V) {
    const Pack<T, V> pack = load<V>(row + c);
    for (int i = 0; i < V; ++i) sum = fmaf(x[c + i], static_cast<float>(pack.at[i]), sum);
  }
  return sum;
}

// Lane l takes elements l, l + 32, ...
template <class T>
__device__ void load_row(float* x, const T* row, int n) {
  for (int c = lane_id(); c < n; c += 32) x[c] = static_cast<float>(row[c]);
}
template <class T>
__device__ void store_row(T* row, const float* x, float factor, int n) {
  for (int c = lane_id(); c < n; c += 32) row[c] = T(x[c] * factor);
}
__device__ inline void clear_row(float* x, int n) {
  for (int c = lane_id(); c < n; c += 32) x[c] = 0;
}
// sum = fade * sum + weights[0] row 0 + weights[1] row 1 + ...; rows are ld apart.
template <class T>
__device__ void add_rows(float* sum, float fade, const float* weights, const T* rows, int64_t ld, int count,
                         int n) {
  for (int c = lane_id(); c < n; c += 32) {
    float total = sum[c] * fade;
    for (int j = 0; j < count; ++j) total = fmaf(weights[j], static_cast<float>(rows[j * ld + c]), total);
    sum[c] = total;
  }
}

// How many rows of `rows` a warp has left from `first`, at most 32.
__device__ inline int up_to_32(int rows, int first) { return rows - first < 32 ? rows - first : 32; }

// Shared floats of a warp.
QFM_HD constexpr int generic_forward_floats(int head_dim) { return 2 * head_dim + 32; }
QFM_HD constexpr int generic_dq_floats(int head_dim) { return 3 * head_dim + 32; }
QFM_HD constexpr int generic_dkv_floats(int head_dim) { return 4 * head_dim + 64; }

// The row of a warp: of all heads' rows, of its head's, and that head.
struct OwnRow {
  uint32_t of_all, head;
  int row;
};
__device__ inline OwnRow own_row(int rows) {
  const uint32_t of_all = blockIdx.x * kGenericWarps + warp_id(), n = static_cast<uint32_t>(rows);
  return {of_all, of_all / n, static_cast<int>(of_all % n)};
}

template <class T, int V>
__global__ void __launch_bounds__(32 * kGenericWarps, 4)
    attention_forward_generic(AttentionShape s, Heads<T> o, float* lse, Heads<const T> q, Heads<const T> k,
                              Heads<const T> v, float scale) {
  DYN_SHARED(float, shared);
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys);
  const int d = static_cast<int>(s.head_dim), lane = lane_id();
  const OwnRow own = own_row(queries);
  if (own.head >= s.batch * s.heads) return;  // a whole warp; there is no block barrier
  k = head_of(k, s, keys, own.head), v = head_of(v, s, keys, own.head);
  const int seen = visible_of(s, own.head).of(own.row);
  float* own_q = shared + warp_id() * generic_forward_floats(d);
  float *sum_pv = own_q + d, *p = sum_pv + d;

  load_row(own_q, row_of(q, s, queries, own.head, own.row), d);
  clear_row(sum_pv, d);
  __syncwarp();
  const float to_log2 = scale * kLog2e;  // e^(scale x) = 2^(to_log2 x)
  float top = -INFINITY, sum = seen > 0 ? 0.0f : 1.0f;  // which divides the zeros of a query that sees nothing
  for (int first = 0; first < seen; first += 32) {
    const int count = up_to_32(seen, first);
    const float score = lane < count ? dot<V>(own_q, k.data + (first + lane) * k.ld, d) : -INFINITY;
    const float new_top = fmaxf(top, warp_max(score));
    const float fade = exp2f((top - new_top) * to_log2), own_p = exp2f((score - new_top) * to_log2);
    top = new_top;
    sum = fmaf(sum, fade, warp_sum(own_p));
    p[lane] = own_p;
    __syncwarp();
    add_rows(sum_pv, fade, p, v.data + first * v.ld, v.ld, count, d);
    __syncwarp();
  }
  store_row(row_of(o, s, queries, own.head, own.row), sum_pv, 1 / sum, d);
  if (lse && lane == 0) lse[own.of_all] = fmaf(top, scale, logf(sum));
}

// dq of a query, and delta = dO . O for the kernel below.
template <class T, int V>
__global__ void __launch_bounds__(32 * kGenericWarps, 4)
    attention_dq_generic(AttentionShape s, Heads<T> dq, float* delta, Heads<const T> d_o, Heads<const T> q,
                         Heads<const T> k, Heads<const T> v, Heads<const T> o, const float* lse,
                         float scale) {
  DYN_SHARED(float, shared);
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys);
  const int d = static_cast<int>(s.head_dim), lane = lane_id();
  const OwnRow own = own_row(queries);
  if (own.head >= s.batch * s.heads) return;
  k = head_of(k, s, keys, own.head), v = head_of(v, s, keys, own.head);
  const int seen = visible_of(s, own.head).of(own.row);
  float* own_q = shared + warp_id() * generic_dq_floats(d);
  float *own_do = own_q + d, *sum_dq = own_do + d, *ds = sum_dq + d;

  load_row(own_q, row_of(q, s, queries, own.head, own.row), d);
  load_row(own_do, row_of(d_o, s, queries, own.head, own.row), d);
  clear_row(sum_dq, d);
  const T* own_o = row_of(o, s, queries, own.head, own.row);
  float products = 0;
  for (int c = lane; c < d; c += 32) products = fmaf(own_do[c], static_cast<float>(own_o[c]), products);
  const float own_delta = warp_sum(products), lse2 = lse[own.of_all] * kLog2e;
  if (lane == 0) delta[own.of_all] = own_delta;
  __syncwarp();
  for (int first = 0; first < seen; first += 32) {
    const int count = up_to_32(seen, first);
    if (lane < count) {
      const float score = dot<V>(own_q, k.data + (first + lane) * k.ld, d);
      const float dp = dot<V>(own_do, v.data + (first + lane) * v.ld, d);
      ds[lane] = exp2f(fmaf(score, scale * kLog2e, -lse2)) * (dp - own_delta);
    }
    __syncwarp();
    add_rows(sum_dq, 1, ds, k.data + first * k.ld, k.ld, count, d);
    __syncwarp();
  }
  store_row(row_of(dq, s, queries, own.head, own.row), sum_dq, scale, d);
}

// dk and dv of a key.
template <class T, int V>
__global__ void __launch_bounds__(32 * kGenericWarps, 4)
    attention_dkv_generic(AttentionShape s, Heads<T> dk, Heads<T> dv, const float* delta, Heads<const T> d_o,
                          Heads<const T> q, Heads<const T> k, Heads<const T> v, const float* lse,
                          float scale) {
  DYN_SHARED(float, shared);
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys);
  const int d = static_cast<int>(s.head_dim), lane = lane_id();
  const OwnRow own = own_row(keys);
  if (own.head >= s.batch * s.heads) return;
  q = head_of(q, s, queries, own.head), d_o = head_of(d_o, s, queries, own.head);
  lse += own.head * s.queries, delta += own.head * s.queries;
  float* own_k = shared + warp_id() * generic_dkv_floats(d);
  float *own_v = own_k + d, *sum_dk = own_v + d, *sum_dv = sum_dk + d, *p = sum_dv + d, *ds = p + 32;

  load_row(own_k, row_of(k, s, keys, own.head, own.row), d);
  load_row(own_v, row_of(v, s, keys, own.head, own.row), d);
  clear_row(sum_dk, d);
  clear_row(sum_dv, d);
  __syncwarp();
  for (int first = visible_of(s, own.head).first_query(own.row, queries); first < queries; first += 32) {
    const int count = up_to_32(queries, first);
    if (lane < count) {
      const float score = dot<V>(own_k, q.data + (first + lane) * q.ld, d);
      const float dp = dot<V>(own_v, d_o.data + (first + lane) * d_o.ld, d);
      p[lane] = exp2f(fmaf(score, scale * kLog2e, -lse[first + lane] * kLog2e));
      ds[lane] = p[lane] * (dp - delta[first + lane]);
    }
    __syncwarp();
    add_rows(sum_dv, 1, p, d_o.data + first * d_o.ld, d_o.ld, count, d);
    add_rows(sum_dk, 1, ds, q.data + first * q.ld, q.ld, count, d);
    __syncwarp();
  }
  store_row(row_of(dk, s, keys, own.head, own.row), sum_dk, scale, d);
  store_row(row_of(dv, s, keys, own.head, own.row), sum_dv, 1, d);
}

}  // namespace qfm::attention
