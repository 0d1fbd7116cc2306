// The attention forward, from the formula to the shipped kernel: o = softmax(q k^T / sqrt(d)) v for every
// image and head.
//
// For ViT-S at 256 images (1536 heads, S = 197 queries and keys, d = 64) it is 4 S^2 d = 9.9 MFLOP a
// head, 15.3 GFLOP in all; q, k, v and o are 155 MB in BF16. At an H100's 3.35 TB/s that is 46 us, at the 67
// TFLOP/s of its FMA units 228 us, at the 600 that mma.sync reaches of its tensor cores 26 us. The ladder
// first gets rid of memory traffic that the formula suggests, then of instructions, then of waiting. All
// times here are such arithmetic.
#include "engine/cuda/launch.h"
#include "engine/cuda/warp_ops.h"
#include "engine/memory/memory.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/attention_fma.cuh"
#include "kernels/attention/attention_forward.cuh"
#include "kernels/study/study.h"

namespace qfm {
namespace {

using namespace attention;

constexpr int kNaiveThreads = 256;
unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>((threads + kNaiveThreads - 1) / kNaiveThreads);
}

// 1. Naive: the formula as three kernels, each with a thread for a result, and the scores, S x S floats a
// head, in memory between them: 238 MB at 256 images, written, read and written by the softmax, read again.
// These four passes are 0.95 GB beside the 155 MB that have to move, and they grow with S^2. Neighbours in a
// warp read 32 rows of K at a time, and the softmax's threads walk along 32 rows, 32 sectors for 32 floats.
__global__ void scores_kernel(AttentionShape s, float* scores, Heads<const bf16> q, Heads<const bf16> k,
                              float scale) {
  const int64_t i = int64_t{blockIdx.x} * kNaiveThreads + threadIdx.x, row = i / s.keys;
  if (row >= s.batch * s.heads * s.queries) return;
  const auto head = static_cast<uint32_t>(row / s.queries);
  const bf16* a = row_of(q, s, s.queries, head, row % s.queries);
  const bf16* b = row_of(k, s, s.keys, head, i % s.keys);
  float sum = 0;
  for (int64_t c = 0; c < s.head_dim; ++c)
    sum = fmaf(static_cast<float>(a[c]), static_cast<float>(b[c]), sum);
  scores[i] = sum * scale;
}
__global__ void softmax_kernel(float* scores, int64_t rows, int64_t keys) {
  const int64_t row = int64_t{blockIdx.x} * kNaiveThreads + threadIdx.x;
  if (row >= rows) return;
  scores += row * keys;
  float top = -INFINITY, sum = 0;
  for (int64_t j = 0; j < keys; ++j) top = fmaxf(top, scores[j]);
  for (int64_t j = 0; j < keys; ++j) sum += expf(scores[j] - top);
  for (int64_t j = 0; j < keys; ++j) scores[j] = expf(scores[j] - top) / sum;
}
__global__ void weigh_values_kernel(AttentionShape s, Heads<bf16> o, const float* p, Heads<const bf16> v) {
  const int64_t i = int64_t{blockIdx.x} * kNaiveThreads + threadIdx.x, row = i / s.head_dim,
                c = i % s.head_dim;
  if (row >= s.batch * s.heads * s.queries) return;
  const auto head = static_cast<uint32_t>(row / s.queries);
  const bf16* values = row_of(v, s, s.keys, head, 0);
  float sum = 0;
  for (int64_t j = 0; j < s.keys; ++j)
    sum = fmaf(p[row * s.keys + j], static_cast<float>(values[j * v.ld + c]), sum);
  row_of(o, s, s.queries, head, row % s.queries)[c] = bf16(sum);
}
void naive(Cuda cuda, AttentionShape s, Heads<bf16> o, Heads<const bf16> q, Heads<const bf16> k,
           Heads<const bf16> v) {
  const int64_t rows = s.batch * s.heads * s.queries;
  if (rows == 0) return;
  const DeviceScratch scratch(rows * s.keys * sizeof(float));
  float* scores = scratch.as<float>();
  launch<scores_kernel>(blocks_for(rows * s.keys), kNaiveThreads, 0, cuda.stream, s, scores, q, k,
                        static_cast<float>(s.scale()));
  launch<softmax_kernel>(blocks_for(rows), kNaiveThreads, 0, cuda.stream, scores, rows, s.keys);
  launch<weigh_values_kernel>(blocks_for(rows * s.head_dim), kNaiveThreads, 0, cuda.stream, s, o, scores, v);
}

// 2. A block for a query: the three kernels in one, the row of scores in shared memory. Memory now moves what
// has to move, once, and no more of it for longer sequences. But each of the 197 queries reads all of K and V
// again, 50 kB, if only from the L2 cache: 15 GB at 256 images, a hundred times what came from memory.
constexpr int kRowThreads = 128;
__device__ float block_max(float v, float* parts) {
  v = warp_max(v);
  if (lane_id() == 0) parts[warp_id()] = v;
  __syncthreads();
  for (int w = 0; w < kRowThreads / 32; ++w) v = fmaxf(v, parts[w]);
  __syncthreads();
  return v;
}
__device__ float block_sum(float v, float* parts) {
  v = warp_sum(v);
  if (lane_id() == 0) parts[warp_id()] = v;
  __syncthreads();
  v = 0;
  for (int w = 0; w < kRowThreads / 32; ++w) v += parts[w];
  __syncthreads();
  return v;
}
__global__ void __launch_bounds__(kRowThreads)
    block_a_query_kernel(AttentionShape s, Heads<bf16> o, Heads<const bf16> q, Heads<const bf16> k,
                         Heads<const bf16> v, float scale) {
  DYN_SHARED(float, p);
  SHARED(float, parts, [kRowThreads / 32]);
  const auto head = static_cast<uint32_t>(blockIdx.x / s.queries);
  const int64_t query = blockIdx.x % s.queries;
  const bf16 *own_q = row_of(q, s, s.queries, head, query), *values = row_of(v, s, s.keys, head, 0);
  float top = -INFINITY, sum = 0;
  for (int64_t j = threadIdx.x; j < s.keys; j += kRowThreads) {
    const bf16* key = row_of(k, s, s.keys, head, j);
    float score = 0;
    for (int64_t c = 0; c < s.head_dim; ++c)
      score = fmaf(static_cast<float>(own_q[c]), static_cast<float>(key[c]), score);
    p[j] = score * scale, top = fmaxf(top, p[j]);
  }
  top = block_max(top, parts);
  for (int64_t j = threadIdx.x; j < s.keys; j += kRowThreads) sum += p[j] = expf(p[j] - top);
  sum = block_sum(sum, parts);
  for (int64_t c = threadIdx.x; c < s.head_dim; c += kRowThreads) {
    float total = 0;
    for (int64_t j = 0; j < s.keys; ++j) total = fmaf(p[j], static_cast<float>(values[j * v.ld + c]), total);
    row_of(o, s, s.queries, head, query)[c] = bf16(total / sum);
  }
}
void block_a_query(Cuda cuda, AttentionShape s, Heads<bf16> o, Heads<const bf16> q, Heads<const bf16> k,
                   Heads<const bf16> v) {
  if (s.batch * s.queries == 0) return;
  launch<block_a_query_kernel>(s.batch * s.heads * s.queries, kRowThreads, s.keys * sizeof(float),
                               cuda.stream, s, o, q, k, v, static_cast<float>(s.scale()));
}

// 3. Tiles, "flash attention" (attention_fma.cuh, shipped for F32). A block owns 64 queries, and every 64
// keys that it brings into shared memory serve all of them: the L2 cache is read 4 times instead of 197. The
// rows of scores never exist whole, so the softmax goes along: with each larger score the sums so far fade by
// exp(old top - new top). Now arithmetic bounds: 256 x 256 padded products take 385 us of FMA units.
template <class F>
void with_head_size(const AttentionShape& s, F&& run) {
  if (s.head_dim <= 32) run(Lanes<32>{});
  else run(Lanes<64>{});
}
void tiles(Cuda cuda, AttentionShape s, Heads<bf16> o, Heads<const bf16> q, Heads<const bf16> k,
           Heads<const bf16> v) {
  if (s.head_dim > 64) return block_a_query(cuda, s, o, q, k, v);
  if (s.batch * s.queries == 0) return;
  const int64_t parts = (s.queries + kFmaRows - 1) / kFmaRows;
  with_head_size(s, [&]<int D>(Lanes<D>) {
    launch<attention_forward_fma<bf16, D>>(s.batch * s.heads * parts, kFmaThreads, kFmaForwardBytes<D>,
                                           cuda.stream, s, o, nullptr, q, k, v, static_cast<float>(s.scale()),
                                           static_cast<int>(parts));
  });
}

// 4. Tensor cores. The same tiles in BF16, 4 warps of 16 queries, and mma.sync for both products: one
// instruction for 2048 multiply-adds instead of 64. P goes from the scores' registers straight into the next
// product: the layouts agree (attention_tile.cuh), so its way through shared memory is gone too. P is rounded
// to BF16 there, its sum is not. What remains is waiting: all warps stand still while a tile comes in.
bool in_packs(const AttentionShape& s, std::initializer_list<Heads<const bf16>> views) {
  bool fit = s.head_dim % 8 == 0 && s.head_dim <= 64;
  for (const auto& v : views) fit = fit && v.ld % 8 == 0 && reinterpret_cast<uintptr_t>(v.data) % 16 == 0;
  return fit;
}
template <int D>
__device__ void copy_rows(bf16* tile, Heads<const bf16> from, int first, int end, int d) {
  for (int i = threadIdx.x; i < 16 * kTiledBlocks * D / 8; i += blockDim.x) {
    const int row = first + i / (D / 8), column = i % (D / 8) * 8;
    const Pack<bf16, 8> zeros = {};
    store_shared<8>(tile + i / (D / 8) * kTileRow<D> + column,
                    row < end && column < d ? load<8>(from.data + row * from.ld + column) : zeros);
  }
}
template <int D>
__global__ void __launch_bounds__(32 * kForwardWarps)
    tensor_cores_kernel(AttentionShape s, Heads<bf16> o, Heads<const bf16> q, Heads<const bf16> k,
                        Heads<const bf16> v, float scale, int parts) {
  constexpr int kRows = 16 * kTiledBlocks;
  static_assert(kRows == 16 * kForwardWarps);
  DYN_SHARED(bf16, k_tile);
  bf16* v_tile = k_tile + kRows * kTileRow<D>;
  const uint32_t head = blockIdx.x / parts;
  const int queries = static_cast<int>(s.queries), keys = static_cast<int>(s.keys),
            d = static_cast<int>(s.head_dim);
  const int first = kRows * static_cast<int>(blockIdx.x % parts), own = 16 * warp_id();
  k = head_of(k, s, keys, head), v = head_of(v, s, keys, head);
  copy_rows<D>(k_tile, head_of(q, s, queries, head), first, queries, d);
  __syncthreads();
  QueryRows<D> rows;
  load_operand<D>(rows.q, k_tile + own * kTileRow<D>);
  for (int key = 0; key < keys; key += kRows) {
    __syncthreads();  // the tiles have been read
    copy_rows<D>(k_tile, k, key, keys, d);
    copy_rows<D>(v_tile, v, key, keys, d);
    __syncthreads();
    attend<true, kTiledBlocks, kTiledBlocks>(rows, k_tile, v_tile, {keys - key, keys - key}, scale * kLog2e);
  }
  write_rows(head_of(o, s, queries, head), nullptr, first + own, queries, d, rows, scale);
}
void tensor_cores(Cuda cuda, AttentionShape s, Heads<bf16> o, Heads<const bf16> q, Heads<const bf16> k,
                  Heads<const bf16> v) {
  if (!in_packs(s, {{o.data, o.ld}, q, k, v})) return tiles(cuda, s, o, q, k, v);
  if (s.batch * s.queries == 0) return;
  constexpr int kRows = 16 * kTiledBlocks;
  const int64_t parts = (s.queries + kRows - 1) / kRows;
  with_head_size(s, [&]<int D>(Lanes<D>) {
    launch<tensor_cores_kernel<D>>(s.batch * s.heads * parts, 32 * kForwardWarps,
                                   2 * kRows * kTileRow<D> * sizeof(bf16), cuda.stream, s, o, q, k, v,
                                   static_cast<float>(s.scale()), static_cast<int>(parts));
  });
}

// 5. Copies under way (attention_forward_tiled, shipped for more than 208 keys). cp.async moves the next tile
// into a second pair of buffers while the warps work on this one, and no register holds it on its way. It
// costs twice the shared memory and one wait a tile.
void copies_under_way(Cuda cuda, AttentionShape s, Heads<bf16> o, Heads<const bf16> q, Heads<const bf16> k,
                      Heads<const bf16> v) {
  if (!in_packs(s, {{o.data, o.ld}, q, k, v})) return tiles(cuda, s, o, q, k, v);
  if (s.batch * s.queries == 0) return;
  const int64_t parts = (s.queries + 16 * kForwardWarps - 1) / (16 * kForwardWarps);
  with_head_size(s, [&]<int D>(Lanes<D>) {
    launch<attention_forward_tiled<D>>(s.batch * s.heads * parts, 32 * kForwardWarps, forward_tiled_bytes(D),
                                       cuda.stream, s, o, nullptr, q, k, v, static_cast<float>(s.scale()),
                                       static_cast<int>(parts));
  });
}

// 6. Shipped (attention_forward_whole for 145 to 208 keys). 197 keys are few: a whole head's K and V fit in
// shared memory, a warp's whole rows of scores, 16 x 208, in its registers. So there is one tile, padded to
// 208 instead of 256 keys: 90% of the products are useful instead of 59%; the softmax sees each row once,
// nothing fades; K and V come once for all queries; and no barrier interrupts the warps, so that one's
// exponentials run beside another's products.
void shipped(Cuda cuda, AttentionShape s, Heads<bf16> o, Heads<const bf16> q, Heads<const bf16> k,
             Heads<const bf16> v) {
  attention_forward_own<bf16>(cuda, s, o, nullptr, q, k, v);
}

constexpr StudyStep<AttentionRun> kSteps[] = {
    {"naive", "three kernels, scores in memory", naive},
    {"block a query", "scores in shared memory", block_a_query},
    {"tiles", "64 queries share every 64 keys; online softmax", tiles},
    {"tensor cores", "both products by mma.sync, P in registers", tensor_cores},
    {"copies under way", "cp.async and two buffers", copies_under_way},
    {"shipped", "whole rows of scores, whole K and V", shipped},
};

}  // namespace

std::span<const StudyStep<AttentionRun>> attention_steps() { return kSteps; }

}  // namespace qfm
