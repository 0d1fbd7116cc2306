// BF16 matrix product on the tensor cores, mma.sync m16n8k16 with sums in float. Included by products and
// convolutions.
//
// Slots of shared memory (gemm_pipeline.cuh) hold A and B as they are stored, whichever way round; ldmatrix
// turns a 16 x 16 piece into a fragment, its transposing form where k does not run along the rows.
//
// Banks: the 8 rows that one phase of ldmatrix reads lie kDepth + 8 = 40, or kM + 8 = 136 or 72 elements
// apart, which is 80, 272 or 144 bytes: multiples of 16 whose first 8 multiples differ modulo 128, so that 8
// x 16 bytes cover all 32 banks once. The sums go back through shared memory in rows of kN + 8 floats, 8
// modulo 32: half a warp stores 4 rows x 8 floats, again all banks once.
//
// A warp's tile of 64 x 64 reads 8 fragments (4 KB of shared memory, 32 cycles at 128 bytes a cycle) for 32
// mma (65,536 multiply-adds, 32 cycles at the full rate of one H100 SM, 2048 a cycle); 64 x 32 would read 3
// KB for half the work.
#pragma once
#include "kernels/gemm/gemm_epilogue.cuh"
#include "kernels/gemm/gemm_pipeline.cuh"

namespace qfm {

template <int m, int n, int warp_m, int warp_n, int blocks_per_sm>
struct MmaTile {
  static constexpr int kM = m, kN = n, kWarpM = warp_m, kWarpN = warp_n, kDepth = 32, kStages = 4;
  static constexpr int kWarpsN = n / warp_n, kThreads = 32 * (m / warp_m) * kWarpsN;
  static constexpr int kBlocksPerSm = blocks_per_sm, kSumStride = n + 8;
};

// A slot's part of one operand: `side` rows of A or columns of B, by `depth`.
template <int side, int depth, bool k_inner>
struct MmaSlot {
  static constexpr int kSide = side, kDepth = depth;
  static constexpr bool along_k = k_inner;
  static constexpr int kStride = (along_k ? depth : side) + 8, kElements = (along_k ? side : depth) * kStride;
  static __device__ int place(int i, int p) { return along_k ? i * kStride + p : p * kStride + i; }

  // Four pieces of 8 x 8 from (i, p) on, with g = lane / 4, t = lane % 4 a lane gets row g, depths 2t and 2t
  // + 1 of each. They come in the order of mma's registers: rows first for A, depths first for two neighbours
  // of B.
  static __device__ void read_a(uint32_t (&r)[4], const bf16* slot, int i, int p) {
    read(r, slot, i + lane_id() / 8 % 2 * 8, p + lane_id() / 16 * 8);
  }
  static __device__ void read_b(uint32_t (&r)[4], const bf16* slot, int i, int p) {
    read(r, slot, i + lane_id() / 16 * 8, p + lane_id() / 8 % 2 * 8);
  }

 private:
  // (i, p): the corner of the piece for which this lane brings the address of a row.
  static __device__ void read(uint32_t (&r)[4], const bf16* slot, int i, int p) {
    if constexpr (along_k) ldmatrix_x4(r, slot + place(i + lane_id() % 8, p));
    else ldmatrix_x4_trans(r, slot + place(i, p + lane_id() % 8));
  }
};

// The sums of a warp's part of the tile, as mma holds them; of_a: the sums of the rows of A, in every column.
template <class Tile>
struct MmaSums {
  static constexpr int kRows = Tile::kWarpM / 16, kColumns = Tile::kWarpN / 8;
  float of[kRows][kColumns][4] = {};
  float of_a[kRows][4] = {};
};

// Adds the products of one slot; sums_a: and the sums of A's rows, which are A times ones.
template <class SlotA, class SlotB, class Tile>
__device__ void multiply_slot(MmaSums<Tile>& sums, const bf16* slot_a, const bf16* slot_b, int warp_row,
                              int warp_column, bool sums_a) {
  constexpr int kRows = MmaSums<Tile>::kRows, kColumns = MmaSums<Tile>::kColumns;
#pragma unroll
  for (int p = 0; p < Tile::kDepth; p += 16) {
    uint32_t a[kRows][4], b[kColumns / 2][4];
#pragma unroll
    for (int i = 0; i < kRows; ++i) SlotA::read_a(a[i], slot_a, warp_row + 16 * i, p);
#pragma unroll
    for (int j = 0; j < kColumns / 2; ++j) SlotB::read_b(b[j], slot_b, warp_column + 16 * j, p);
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
        mma_bf16(sums.of[i][j], a[i], {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]});
    if (sums_a)
#pragma unroll
      for (int i = 0; i < kRows; ++i) mma_bf16(sums.of_a[i], a[i], {0x3f803f80u, 0x3f803f80u});
  }
}

// Lane 4 g + t holds rows g and g + 8, columns 2t and 2t + 1 of each 16 x 8 piece.
template <class Tile>
__device__ void store_sums(float* tile, const MmaSums<Tile>& sums, int warp_row, int warp_column) {
  const int row = warp_row + lane_id() / 4, column = warp_column + lane_id() % 4 * 2;
#pragma unroll
  for (int i = 0; i < MmaSums<Tile>::kRows; ++i)
#pragma unroll
    for (int j = 0; j < MmaSums<Tile>::kColumns; ++j) {
      const float(&v)[4] = sums.of[i][j];
      float* to = tile + (row + 16 * i) * Tile::kSumStride + column + 8 * j;
      store_shared<2>(to, Pack<float, 2>{{v[0], v[1]}});
      store_shared<2>(to + 8 * Tile::kSumStride, Pack<float, 2>{{v[2], v[3]}});
    }
}

// The sums of A's rows from `row` on, where they lie before `end`.
template <class Tile>
__device__ void store_sums_of_a(float* sum_a, const MmaSums<Tile>& sums, int64_t row, int64_t end) {
  if (lane_id() % 4 != 0) return;
  for (int i = 0; i < MmaSums<Tile>::kRows; ++i)
    for (int half = 0; half < 2; ++half) {
      const int64_t at = row + 16 * i + 8 * half + lane_id() / 4;
      if (at < end) sum_a[at] = sums.of_a[i][2 * half];
    }
}

// Part y of k goes to the y-th C and the y-th sum_a.
template <class Tile, bool a_along_k, bool b_along_k, bool in_packs>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSm)
    gemm_mma_kernel(GemmOutput<bf16> to, GemmOperand<bf16> a, GemmOperand<bf16> b, int64_t k, GemmTiling cut,
                    float* sum_a) {
  using SlotA = MmaSlot<Tile::kM, Tile::kDepth, a_along_k>;
  using SlotB = MmaSlot<Tile::kN, Tile::kDepth, b_along_k>;
  DYN_SHARED(bf16, slots);
  const GemmPlace at = tile_coord<Tile>(k, cut);
  const int warp_row = warp_id() / Tile::kWarpsN * Tile::kWarpM;
  const int warp_column = warp_id() % Tile::kWarpsN * Tile::kWarpN;
  // A kernel for whole packs meets A along k only where no sums of it are wanted.
  const bool sums_a = !(in_packs && a_along_k) && sum_a && at.column == 0 && warp_column == 0;

  Fetcher<SlotA, Tile::kThreads, in_packs, bf16> next_a(a, at.row, at.depth, at.depth_end);
  Fetcher<SlotB, Tile::kThreads, in_packs, bf16> next_b(b, at.column, at.depth, at.depth_end);
  MmaSums<Tile> sums;
  for_steps<Tile, SlotA, SlotB>(slots, next_a, next_b, at.steps, [&](const bf16* slot_a, const bf16* slot_b) {
    multiply_slot<SlotA, SlotB>(sums, slot_a, slot_b, warp_row, warp_column, sums_a);
  });

  if (sums_a) store_sums_of_a(sum_a + blockIdx.y * to.m, sums, at.row + warp_row, to.m);
  float* tile = reinterpret_cast<float*>(slots);
  store_sums(tile, sums, warp_row, warp_column);
  __syncthreads();
  finish_tile<Tile, in_packs>(to, tile, at.row, at.column);
}

template <class Tile, bool a_along_k, bool b_along_k>
constexpr size_t kMmaSharedBytes = std::max(sizeof(bf16) * Tile::kStages *
                                                (MmaSlot<Tile::kM, Tile::kDepth, a_along_k>::kElements +
                                                 MmaSlot<Tile::kN, Tile::kDepth, b_along_k>::kElements),
                                            sizeof(float) * Tile::kM * Tile::kSumStride);

}  // namespace qfm
