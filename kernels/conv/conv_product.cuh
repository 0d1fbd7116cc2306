// The forward of a convolution, and by phases the gradient of its image (conv_gather.cuh): y (channels,
// places) = weights (channels, lines) times images (lines, places), for each group. Included by conv2d.cu.
#pragma once
#include "kernels/conv/conv_core.cuh"
#include "kernels/conv/conv_epilogue.cuh"
#include "kernels/gemm/gemm_tiling.cuh"

namespace qfm {

// Weights as a matrix for each phase and group: `rows` rows, `ld` apart, of which the last elements may be zeros.
template <class T>
struct ConvWeights {
  const T* data;
  int rows;
  int64_t ld;
};

// What is to be gathered. transposed: an image gradient, `from` is dy, and `height`, `width` those of dx;
// else those of y.
template <class T>
struct ConvProblem {
  ConvImage<T> from;
  Window y, x;
  int batch, height, width;
  bool transposed;
  int phases_y() const { return transposed ? static_cast<int>(std::min<int64_t>(y.stride, height)) : 1; }
  int phases_x() const { return transposed ? static_cast<int>(std::min<int64_t>(x.stride, width)) : 1; }
  QFM_HD ConvAxis axis_y(int phase) const {
    return transposed ? dx_axis(y, height, phase) : forward_axis(y, height);
  }
  QFM_HD ConvAxis axis_x(int phase) const {
    return transposed ? dx_axis(x, width, phase) : forward_axis(x, width);
  }
};

// packed[phase, group, m, (c, u, v)] of w (out_channels, in_channels / groups, size, size): m an output channel and c
// an input channel, or the other way round where the problem is transposed.
struct ConvPacking {
  int out, in, taps_y, taps_x;  // of a group
};
template <class T>
__global__ void __launch_bounds__(256) conv_pack_kernel(T* packed, const T* w, ConvProblem<T> p,
                                                        ConvPacking of, int rows, int64_t ld, int phases_x) {
  const int phase = blockIdx.z, group = blockIdx.y;
  const ConvAxis y = p.axis_y(phase / phases_x), x = p.axis_x(phase % phases_x);
  const int64_t size = rows * ld, i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= size) return;
  const int row = static_cast<int>(i / ld);
  const Digits line(static_cast<int>(i % ld), y.taps > 0 ? y.taps : 1, x.taps > 0 ? x.taps : 1);
  T v = T(0.0f);
  if (y.taps > 0 && x.taps > 0 && line.high < p.from.channels) {
    const int64_t out = p.transposed ? line.high : row, in = p.transposed ? row : line.high;
    const int64_t tap =
        int64_t{y.first_tap + line.mid * y.tap_every} * of.taps_x + x.first_tap + line.low * x.tap_every;
    v = w[((int64_t{group} * of.out + out) * of.in + in) * of.taps_y * of.taps_x + tap];
  }
  packed[(int64_t{blockIdx.z} * gridDim.y + group) * size + i] = v;
}

// blockIdx.x counts tiles, those of the same places first, which share what they gather; y groups, z phases.
template <class Core, bool in_packs>
__global__ void __launch_bounds__(Core::Tile::kThreads, Core::Tile::kBlocksPerSm)
    conv_product_kernel(ConvOutput<typename Core::T> to, ConvProblem<typename Core::T> p,
                        ConvWeights<typename Core::T> w, int phases_x) {
  using T = typename Core::T;
  using Tile = typename Core::Tile;
  using Images = std::conditional_t<in_packs, LinePacks<typename Core::SlotB, Tile::kThreads, T>,
                                    LineGather<typename Core::SlotB, Tile::kThreads, T>>;
  DYN_SHARED(T, slots);
  const int phase = blockIdx.z, group = blockIdx.y, tiles_m = (w.rows + Tile::kM - 1) / Tile::kM;
  const int row = static_cast<int>(blockIdx.x % tiles_m) * Tile::kM;
  const int64_t first = int64_t{blockIdx.x / tiles_m} * Tile::kN;
  const ConvAxis y = p.axis_y(phase / phases_x), x = p.axis_x(phase % phases_x);
  const int places = p.batch * y.places * x.places;
  if (first >= places) return;  // a phase with fewer places than the first
  const int place = static_cast<int>(first), lines = p.from.channels * y.taps * x.taps;

  p.from.data += int64_t{group} * p.from.channels * p.from.area();
  const T* weights = w.data + (int64_t{phase} * gridDim.y + group) * w.rows * w.ld;
  PackFetcher<typename Core::SlotA, Tile::kThreads, T> next_w({weights, w.rows, w.ld, true}, row, 0, w.ld);
  Images next_image(p.from, y, x, place, places);
  Core core;
  for_steps<Tile, typename Core::SlotA, typename Core::SlotB>(
      slots, next_w, next_image, (lines + Tile::kDepth - 1) / Tile::kDepth,
      [&](const T* slot_w, const T* slot_image) { core.multiply(slot_w, slot_image, false); });

  float* tile = reinterpret_cast<float*>(slots);
  core.store(tile);
  __syncthreads();
  const int channel = group * w.rows + row, channels = w.rows - row;
  if (to.in_packs) finish_conv_tile<Tile, true>(to, tile, y, x, channel, channels, place, places);
  else finish_conv_tile<Tile, false>(to, tile, y, x, channel, channels, place, places);
}

}  // namespace qfm
