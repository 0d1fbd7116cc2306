// What the bf16 attention kernels share: rows of a head in shared memory, and products of 16 x 16 blocks on
// the tensor cores.
//
// A tile holds rows of D = 32 or 64 bf16 at a stride of D + 8: 5 or 9 times 16 bytes, an odd number, so
// that the 8 rows that ldmatrix reads at once lie in different banks. Rows and columns that the head
// lacks are zeros.
//
// All operands come from 16 x 16 blocks read by one ldmatrix_x4 at the same addresses (lane l gives row l %
// 16, columns 8 (l / 16) ...), whose four 8 x 8 parts are r[0] top left, r[1] bottom left, r[2] top right,
// r[3] bottom right. What they are to mma (warp_ops.h) follows:
//   block            as a: r0 r1 r2 r3    as b, for c += a block^T: its columns 0-7 r0 r2, 8-15 r1 r3
//   block, trans     as a = block^T: r0 r2 r1 r3    as b, for c += a block: columns 0-7 r0 r1, 8-15 r2 r3
// A result c of 16 x 16 (two 16 x 8 accumulators) has the layout of an operand a, so products are
// chained in registers.
#pragma once
#include "engine/cuda/warp_ops.h"
#include "kernels/attention/attention.h"

namespace qfm::attention {

constexpr float kLog2e = 1.4426950408889634f;

// The rows of head `head` = image * heads + (head of the image). Divides 32 bits, which a GPU does faster.
template <class T>
__device__ Heads<T> head_of(Heads<T> x, const AttentionShape& s, int64_t tokens, uint32_t head) {
  const auto heads = static_cast<uint32_t>(s.heads);
  return {x.data + head / heads * tokens * x.ld + head % heads * s.head_dim, x.ld};
}
template <class T>
__device__ T* row_of(Heads<T> x, const AttentionShape& s, int64_t tokens, uint32_t head, int64_t token) {
  return head_of(x, s, tokens, head).data + token * x.ld;
}
// What the mask leaves of a head's keys.
__device__ inline VisibleKeys<int> visible_of(const AttentionShape& s, uint32_t head) {
  return visible_keys<int>(s, head / static_cast<uint32_t>(s.heads));
}

template <int D>
constexpr int kTileRow = D + 8;  // elements from a row of a tile to the next
// Tokens rounded up to whole blocks of 16.
QFM_HD constexpr int whole_blocks(int64_t tokens) { return static_cast<int>((tokens + 15) / 16 * 16); }

// Who shares a task: thread `rank` of `size`.
struct ThreadGroup {
  int rank, size;
};
__device__ inline ThreadGroup whole_block() {
  return {static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x)};
}
__device__ inline ThreadGroup whole_warp() { return {lane_id(), 32}; }

// Starts copies of rows [first, end) of a head, d columns, to a tile of `rows` rows.
template <int D>
__device__ void stage_rows(ThreadGroup team, bf16* tile, int rows, Heads<const bf16> from, int first, int end,
                           int d) {
  constexpr int packs = D / 8;  // of 16 bytes
#pragma unroll 1                // unrolled, its addresses would take the registers that scores need
  for (int i = team.rank; i < rows * packs; i += team.size) {
    const int row = i / packs, column = i % packs * 8;
    const bool there = first + row < end && column < d;
    const bf16* source = from.data + (there ? (first + row) * from.ld + column : 0);
    cp_async16(tile + row * kTileRow<D> + column, source, there);
  }
}

// This lane's address for ldmatrix_x4 of the 16 x 16 block at `block`.
__device__ inline const bf16* block_row(const bf16* block, int row_elements) {
  return block + lane_id() % 16 * row_elements + lane_id() / 16 * 8;
}

// a = 16 rows of a tile, as D / 16 operands.
template <int D>
__device__ void load_operand(uint32_t (&a)[D / 16][4], const bf16* rows) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) ldmatrix_x4(a[k], block_row(rows + 16 * k, kTileRow<D>));
}

// A 16 x 16 result in the layout of an operand, rounded to bf16.
__device__ inline void as_operand(uint32_t (&a)[4], const float (&c)[2][4]) {
  a[0] = pack_bf16(c[0][0], c[0][1]), a[1] = pack_bf16(c[0][2], c[0][3]);
  a[2] = pack_bf16(c[1][0], c[1][1]), a[3] = pack_bf16(c[1][2], c[1][3]);
}

// c (16 x 16) += a (16 x D) rows^T, with 16 rows of a tile.
template <int D>
__device__ void multiply_transposed(float (&c)[2][4], const uint32_t (&a)[D / 16][4], const bf16* rows) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    uint32_t r[4];
    ldmatrix_x4(r, block_row(rows + 16 * k, kTileRow<D>));
    const uint32_t left[2] = {r[0], r[2]}, right[2] = {r[1], r[3]};
    mma_bf16(c[0], a[k], left);
    mma_bf16(c[1], a[k], right);
  }
}

// c (16 x D) += a (16 x 16) rows, with 16 rows of a tile.
template <int D>
__device__ void multiply(float (&c)[D / 8][4], const uint32_t (&a)[4], const bf16* rows) {
#pragma unroll
  for (int n = 0; n < D / 16; ++n) {
    uint32_t r[4];
    ldmatrix_x4_trans(r, block_row(rows + 16 * n, kTileRow<D>));
    const uint32_t left[2] = {r[0], r[1]}, right[2] = {r[2], r[3]};
    mma_bf16(c[2 * n], a, left);
    mma_bf16(c[2 * n + 1], a, right);
  }
}

// Over the 4 lanes that hold a row of a result.
__device__ inline float row_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(kWholeWarp, v, 1));
  return fmaxf(v, __shfl_xor_sync(kWholeWarp, v, 2));
}
__device__ inline float row_sum(float v) {
  v += __shfl_xor_sync(kWholeWarp, v, 1);
  return v + __shfl_xor_sync(kWholeWarp, v, 2);
}

// Words 0-3 of lanes t = 0-3 (of 4 neighbours) become words t of lanes 0-3.
__device__ inline void transpose_words(uint32_t (&w)[4]) {
#pragma unroll
  for (int distance = 1; distance <= 2; distance *= 2) {
    const bool high = lane_id() & distance;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & distance) continue;
      uint32_t& mine = w[i | distance];
      const uint32_t other = __shfl_xor_sync(kWholeWarp, high ? w[i] : mine, distance);
      if (high) w[i] = other;
      else mine = other;
    }
  }
}

// Rows [first, end) of a head, 16 at most, and d columns = c (16 x D), rows g and g + 8 of lane 4 g + t times
// factor[0] and factor[1]. The 4 lanes of a row swap words, so that each writes 16 bytes, 64 side by side.
template <int D>
__device__ void store_result(Heads<bf16> to, int first, int end, int d, const float (&c)[D / 8][4],
                             const float (&factor)[2]) {
  const int g = lane_id() / 4, t = lane_id() % 4;
#pragma unroll
  for (int n = 0; n < D / 8; n += 4)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        words[i] = pack_bf16(c[n + i][2 * half] * factor[half], c[n + i][2 * half + 1] * factor[half]);
      transpose_words(words);
      const int row = first + g + 8 * half;
      bf16* part = to.data + row * to.ld + 8 * t;  // + 8 n: a constant offset, no address of its own
      if (row < end && 8 * (n + t) < d)
        store<4>(reinterpret_cast<uint32_t*>(part + 8 * n), {words[0], words[1], words[2], words[3]});
    }
}

}  // namespace qfm::attention
