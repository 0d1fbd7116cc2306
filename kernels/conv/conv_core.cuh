// What multiplies the two slots of a step (gemm_pipeline.cuh) and holds a block's sums: tensor cores for BF16, fused
// multiply-adds for F32. The first operand lies along k in its slot, weights and dy; the second, of images, either way.
// Included by convolutions only.
#pragma once
#include "kernels/gemm/gemm_f32.cuh"
#include "kernels/gemm/gemm_mma.cuh"

namespace qfm {

template <class T, class Tile, bool b_along_k>
class ConvCore;

template <class TileOfBlock, bool b_along_k>
class ConvCore<bf16, TileOfBlock, b_along_k> {
 public:
  using T = bf16;
  using Tile = TileOfBlock;
  using SlotA = MmaSlot<Tile::kM, Tile::kDepth, true>;
  using SlotB = MmaSlot<Tile::kN, Tile::kDepth, b_along_k>;

  // sums_a: and the sums of the first operand's rows.
  __device__ void multiply(const bf16* a, const bf16* b, bool sums_a) {
    multiply_slot<SlotA, SlotB>(sums_, a, b, row_, column_, sums_a && column_ == 0);
  }
  __device__ void store(float* tile) const { store_sums(tile, sums_, row_, column_); }
  // Those of rows `first` on, as far as `end`.
  __device__ void store_of_a(float* to, int first, int end) const {
    if (column_ == 0) store_sums_of_a(to, sums_, first + row_, end);
  }

 private:
  const int row_ = warp_id() / Tile::kWarpsN * Tile::kWarpM,
            column_ = warp_id() % Tile::kWarpsN * Tile::kWarpN;
  MmaSums<Tile> sums_;
};

template <class TileOfBlock, bool b_along_k>
class ConvCore<float, TileOfBlock, b_along_k> {
 public:
  using T = float;
  using Tile = TileOfBlock;
  using SlotA = F32Slot<Tile::kM, Tile::kDepth, Tile::kOwn, true>;
  using SlotB = F32Slot<Tile::kN, Tile::kDepth, Tile::kOwn, b_along_k>;

  __device__ void multiply(const float* a, const float* b, bool sums_a) {
    multiply_slot<SlotA, SlotB>(sum_, a, b, down_, across_);
    if (sums_a && threadIdx.x < Tile::kM)
      for (int p = 0; p < Tile::kDepth; ++p) of_a_ += a[SlotA::place(threadIdx.x, p)];
  }
  __device__ void store(float* tile) const { store_sums<Tile, SlotA, SlotB>(tile, sum_, down_, across_); }
  __device__ void store_of_a(float* to, int first, int end) const {
    const int at = first + static_cast<int>(threadIdx.x);
    if (threadIdx.x < Tile::kM && at < end) to[at] = of_a_;
  }

 private:
  const int across_ = threadIdx.x % Tile::kAcross, down_ = threadIdx.x / Tile::kAcross;
  float sum_[Tile::kOwn][Tile::kOwn] = {}, of_a_ = 0;
};

template <class Core>
constexpr size_t kConvSharedBytes = std::max(sizeof(typename Core::T) * Core::Tile::kStages *
                                                 (Core::SlotA::kElements + Core::SlotB::kElements),
                                             sizeof(float) * Core::Tile::kM * Core::Tile::kSumStride);

}  // namespace qfm
