// The weight gradient of a convolution: dw (channels, lines) = dy (channels, places) times images^T (places,
// lines), for each group; lines and places as in conv_gather.cuh. Included by conv2d.cu.
//
// Places are the long side, of all images of the batch: they are cut into parts, by the shape alone, which
// are added in order afterwards (gemm_parts.cuh). The shift's gradient, the sums of dy's rows, comes out of
// the same pass.
#pragma once
#include "kernels/conv/conv_core.cuh"
#include "kernels/conv/conv_gather.cuh"
#include "kernels/gemm/gemm_parts.cuh"
#include "kernels/gemm/gemm_tiling.cuh"

namespace qfm {

// Tiles of one group's dw, and the places of one part.
struct ConvCut {
  int64_t tiles_m, tiles_n, parts, depth;
};
template <class Tile>
ConvCut conv_dw_cut(const ConvShape& s) {
  constexpr int64_t kMinDepth = 256;
  const auto up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t places = s.batch * s.out_height() * s.out_width();
  ConvCut cut{up(s.group_out(), Tile::kM), up(s.group_in() * s.taps(), Tile::kN), 1, places};
  const int64_t blocks = cut.tiles_m * cut.tiles_n * s.groups;
  const int64_t wanted = std::min(kGemmSms * Tile::kBlocksPerSm / blocks, places / kMinDepth);
  if (wanted <= 1) return cut;
  cut.depth = up(up(places, wanted), Tile::kDepth) * Tile::kDepth;
  cut.parts = up(places, cut.depth);
  return cut;
}

// blockIdx.x counts tiles, y groups, z parts of the places; part z goes to the z-th dw and the z-th db. `to` is one
// group's dw.
template <class Core, bool dy_in_packs, bool x_in_packs>
__global__ void __launch_bounds__(Core::Tile::kThreads, Core::Tile::kBlocksPerSm)
    conv_dw_kernel(GemmOutput<float> to, float* db, ConvImage<typename Core::T> dy,
                   ConvImage<typename Core::T> x, ConvAxis axis_y, ConvAxis axis_x, int places, ConvCut cut) {
  using T = typename Core::T;
  using Tile = typename Core::Tile;
  using SlotA = typename Core::SlotA;
  using SlotB = typename Core::SlotB;
  using FetcherA = std::conditional_t<dy_in_packs, PlacePacks<SlotA, Tile::kThreads, T>,
                                      PlaceGather<SlotA, Tile::kThreads, T>>;
  using FetcherB = std::conditional_t<x_in_packs, PlacePacks<SlotB, Tile::kThreads, T>,
                                      PlaceGather<SlotB, Tile::kThreads, T>>;
  DYN_SHARED(T, slots);
  SHARED(ConvLine, lines_a, [Tile::kM]);
  SHARED(ConvLine, lines_b, [Tile::kN]);
  const int group = blockIdx.y, row = static_cast<int>(blockIdx.x / cut.tiles_n) * Tile::kM;
  const int column = static_cast<int>(blockIdx.x % cut.tiles_n) * Tile::kN;
  const int64_t begin = blockIdx.z * cut.depth, end = begin + cut.depth < places ? begin + cut.depth : places;
  const bool sums_a = db && column == 0;
  const ConvAxis along_y{dy.height, 1, 0, 1, 1, 0, 1, 0, 1}, along_x{dy.width, 1, 0, 1, 1, 0, 1, 0, 1};

  dy.data += int64_t{group} * dy.channels * dy.area();
  x.data += int64_t{group} * x.channels * x.area();
  make_lines<Tile::kM, Tile::kThreads>(lines_a, dy, along_y, along_x, row);
  make_lines<Tile::kN, Tile::kThreads>(lines_b, x, axis_y, axis_x, column);
  __syncthreads();
  const int from = static_cast<int>(begin), to_place = static_cast<int>(end);
  FetcherA next_a(dy, along_y, along_x, lines_a, row, from, to_place);
  FetcherB next_b(x, axis_y, axis_x, lines_b, column, from, to_place);
  Core core;
  for_steps<Tile, SlotA, SlotB>(slots, next_a, next_b, (to_place - from + Tile::kDepth - 1) / Tile::kDepth,
                                [&](const T* a, const T* b) { core.multiply(a, b, sums_a); });

  const int64_t rows = to.m * gridDim.y;  // of all groups
  if (sums_a) core.store_of_a(db + blockIdx.z * rows + group * to.m, row, static_cast<int>(to.m));
  float* tile = reinterpret_cast<float*>(slots);
  core.store(tile);
  __syncthreads();
  to.c += blockIdx.z * rows * to.n;
  if (to.in_packs) finish_tile<Tile, true>(to, tile, row, column);
  else finish_tile<Tile, false>(to, tile, row, column);
}

}  // namespace qfm
