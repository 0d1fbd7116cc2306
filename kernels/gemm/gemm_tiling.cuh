// How a matrix product is cut into the work of blocks, and how a block finds its own. The cut depends on the
// shape only, never on the GPU: the same bits everywhere.
#pragma once
#include <algorithm>

#include "engine/cuda/launch.h"
#include "kernels/gemm/gemm.h"

namespace qfm {

// The GPU that cuts are made for: an H100 or H200.
constexpr int64_t kGemmSms = 132;

// C in tiles, and k in `parts` parts, each `depth` long (the last one shorter).
struct GemmTiling {
  int64_t tiles_m, tiles_n, parts, depth;
  int64_t blocks() const { return tiles_m * tiles_n * parts; }
};

// Tiles of Tile::kM x Tile::kN. Only a weight gradient is cut along k: there k runs over the rows of a batch,
// so that C is small and k long, and no row of C belongs to one image. It gets as many parts as the GPU can
// hold blocks at a time, none shorter than kMinDepth.
template <class Tile>
GemmTiling gemm_tiling(const GemmShape& s, bool sums_a) {
  constexpr int64_t kMinDepth = 256;
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  GemmTiling cut{ceil_div(s.m, Tile::kM), ceil_div(s.n, Tile::kN), 1, s.k};
  if (sums_a) cut.tiles_n = std::max<int64_t>(1, cut.tiles_n);  // the sums are wanted even where C is empty
  if (!s.trans_a || cut.blocks() == 0) return cut;
  const int64_t wanted = std::min(kGemmSms * Tile::kBlocksPerSm / cut.blocks(), s.k / kMinDepth);
  if (wanted <= 1) return cut;
  cut.depth = ceil_div(ceil_div(s.k, wanted), Tile::kDepth) * Tile::kDepth;
  cut.parts = ceil_div(s.k, cut.depth);
  return cut;
}

// What a block is to compute: C from (row, column) on, k in [depth, depth_end), `steps` of Tile::kDepth.
struct GemmPlace {
  int64_t row, column, depth, depth_end;
  int steps;
};

// blockIdx.x counts tiles, along a row of C first, so that blocks that run together share rows of A;
// blockIdx.y counts parts.
template <class Tile>
__device__ GemmPlace tile_coord(int64_t k, const GemmTiling& cut) {
  const unsigned tiles_n = static_cast<unsigned>(cut.tiles_n);
  GemmPlace at;
  at.row = int64_t{blockIdx.x / tiles_n} * Tile::kM;
  at.column = int64_t{blockIdx.x % tiles_n} * Tile::kN;
  at.depth = blockIdx.y * cut.depth;
  at.depth_end = at.depth + cut.depth < k ? at.depth + cut.depth : k;
  at.steps = static_cast<int>((at.depth_end - at.depth + Tile::kDepth - 1) / Tile::kDepth);
  return at;
}

}  // namespace qfm
