// F32 matrix product in true F32, without tensor cores. Included by products and convolutions.
//
// A thread holds kOwn x kOwn sums, in groups of 4 x 4: 4 neighbouring rows and columns, the next group half a
// tile further on. For 4 steps of k it reads kOwn packs of A and as many of B from the slot
// (gemm_pipeline.cuh) and makes 4 kOwn^2 fused multiply-adds, which for each sum run along k in order, from
// zero: one chain, the one that the CPU's vector code makes, with the same bits.
//
// Banks: a warp is 4 threads down by 8 across.
//   k along the rows: a row is 32 floats, all 32 banks. Threads that read in one phase are at the same k, in
//   the same row or in rows a multiple of 4 apart, at most 8 of them. Pack x of row i is kept in place x ^ (i
//   / 4 % 8): 8 places, no two in the same banks. k across the rows: 8 threads read 8 neighbouring packs.
#pragma once
#include "kernels/gemm/gemm_epilogue.cuh"
#include "kernels/gemm/gemm_pipeline.cuh"

namespace qfm {

template <int m, int n, int own, int blocks_per_sm>
struct F32Tile {
  static constexpr int kM = m, kN = n, kOwn = own, kDepth = 32, kStages = 3;
  static constexpr int kAcross = n / own, kThreads = m / own * kAcross;
  static constexpr int kBlocksPerSm = blocks_per_sm, kSumStride = n;
  static_assert(kAcross == 8 && kThreads >= m && own % 4 == 0);
};

// A slot's part of one operand: `side` rows of A or columns of B, by `depth`; a thread owns `own` of them.
template <int side, int depth, int own, bool k_inner>
struct F32Slot {
  static constexpr int kSide = side, kDepth = depth, kElements = side * depth;
  static constexpr bool along_k = k_inner;
  static __device__ int place(int i, int p) {
    return along_k ? i * depth + (p ^ (i / 4 % 8 * 4)) : p * side + i;
  }
  // The j-th of thread `index`'s own.
  static __device__ int owned(int index, int j) { return side / (own / 4) * (j / 4) + 4 * index + j % 4; }

  // The thread's own, depths p .. p + 3.
  static __device__ void read(float (&v)[own][4], const float* slot, int index, int p) {
#pragma unroll
    for (int x = 0; x < own; ++x) {
      if constexpr (along_k) {
        const auto pack = load<4>(slot + place(owned(index, x), p));
#pragma unroll
        for (int y = 0; y < 4; ++y) v[x][y] = pack.at[y];
      } else {
        const auto pack = load<4>(slot + place(owned(index, x / 4 * 4), p + x % 4));
#pragma unroll
        for (int y = 0; y < 4; ++y) v[x / 4 * 4 + y][x % 4] = pack.at[y];
      }
    }
  }
};

template <class SlotA, class SlotB, int own>
__device__ void multiply_slot(float (&sum)[own][own], const float* slot_a, const float* slot_b, int down,
                              int across) {
#pragma unroll 1
  for (int p = 0; p < SlotA::kDepth; p += 4) {
    float a[own][4], b[own][4];
    SlotA::read(a, slot_a, down, p);
    SlotB::read(b, slot_b, across, p);
#pragma unroll
    for (int q = 0; q < 4; ++q)
#pragma unroll
      for (int i = 0; i < own; ++i)
#pragma unroll
        for (int j = 0; j < own; ++j) sum[i][j] = fmaf(a[i][q], b[j][q], sum[i][j]);
  }
}

template <class Tile, class SlotA, class SlotB, int own>
__device__ void store_sums(float* tile, const float (&sum)[own][own], int down, int across) {
#pragma unroll
  for (int i = 0; i < own; ++i)
#pragma unroll
    for (int j = 0; j < own; j += 4)
      store_shared<4>(tile + SlotA::owned(down, i) * Tile::kSumStride + SlotB::owned(across, j),
                      Pack<float, 4>{{sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]}});
}

// Part y of k goes to the y-th C and the y-th sum_a.
template <class Tile, bool a_along_k, bool b_along_k, bool in_packs>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSm)
    gemm_f32_kernel(GemmOutput<float> to, GemmOperand<float> a, GemmOperand<float> b, int64_t k,
                    GemmTiling cut, float* sum_a) {
  constexpr int kOwn = Tile::kOwn;
  using SlotA = F32Slot<Tile::kM, Tile::kDepth, kOwn, a_along_k>;
  using SlotB = F32Slot<Tile::kN, Tile::kDepth, kOwn, b_along_k>;
  DYN_SHARED(float, slots);
  const GemmPlace at = tile_coord<Tile>(k, cut);
  const int across = threadIdx.x % Tile::kAcross, down = threadIdx.x / Tile::kAcross;
  const bool sums_a = !(in_packs && a_along_k) && sum_a && at.column == 0 && threadIdx.x < Tile::kM;

  Fetcher<SlotA, Tile::kThreads, in_packs, float> next_a(a, at.row, at.depth, at.depth_end);
  Fetcher<SlotB, Tile::kThreads, in_packs, float> next_b(b, at.column, at.depth, at.depth_end);
  float sum[kOwn][kOwn] = {}, of_a = 0;
  for_steps<Tile, SlotA, SlotB>(slots, next_a, next_b, at.steps, [&](const float* slot_a, const float* slot_b) {
    multiply_slot<SlotA, SlotB>(sum, slot_a, slot_b, down, across);
    if (sums_a)
      for (int p = 0; p < Tile::kDepth; ++p) of_a += slot_a[SlotA::place(threadIdx.x, p)];
  });

  if (sums_a && at.row + threadIdx.x < to.m) sum_a[blockIdx.y * to.m + at.row + threadIdx.x] = of_a;
  store_sums<Tile, SlotA, SlotB>(slots, sum, down, across);
  __syncthreads();
  finish_tile<Tile, in_packs>(to, slots, at.row, at.column);
}

template <class Tile>
constexpr size_t kF32SharedBytes = sizeof(float) * std::max(Tile::kStages*(Tile::kM + Tile::kN) *
                                                                Tile::kDepth,
                                                            Tile::kM* Tile::kSumStride);

}  // namespace qfm
