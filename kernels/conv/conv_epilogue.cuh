// The end of a convolution on CUDA: a tile of sums in shared memory, channels down and places across, becomes
// elements of images; the order of the steps is the contract in conv2d.h. Included by convolutions only.
//
// As in gemm_epilogue.cuh a thread keeps to kEpiloguePack columns and walks down the rows, kRowsInFlight at a
// time. Where places follow each other in memory in whole packs those are neighbours, and leave by one store;
// else they lie a whole warp apart, so that neighbouring threads store neighbouring places.
#pragma once
#include "kernels/common/activate.h"
#include "kernels/conv/conv_gather.cuh"
#include "kernels/gemm/gemm_epilogue.cuh"

namespace qfm {

// Images (batch, all channels, height, width), and what becomes of the sums on their way there.
template <class T>
struct ConvOutput {
  T* y;
  ConvEpilogue<T> epilogue;
  int64_t stride;  // from image to image
  int height, width;
  bool in_packs;  // of the images and of `residual`; places are their elements one by one
};

// The value of channel `channel`, element `at` of the images.
template <class T>
__device__ float finish_conv_value(const ConvEpilogue<T>& e, float v, int channel, float residual) {
  if (e.scale) v *= e.scale[channel];
  if (e.shift) v += e.shift[channel];
  if (e.residual) v += residual;
  return activate(e.activation, v);
}

// Where columns of a tile lie in image memory, in channel 0 of the images; -1 past the last place.
template <class T>
__device__ int64_t place_of(const ConvOutput<T>& to, const ConvAxis& y, const ConvAxis& x, int n,
                            int places) {
  if (n >= places) return -1;
  const Digits at(n, y.places, x.places);
  return at.high * to.stride + int64_t{y.out_first + at.mid * y.out_step} * to.width + x.out_first +
         at.low * x.out_step;
}

// The columns from `place` on of a tile of sums, its rows Tile::kSumStride apart: channels `channel`, channel + 1, ...,
// `channels` of them at most. By all threads of the block, after a barrier.
template <class Tile, bool in_packs, class T>
__device__ void finish_conv_tile(const ConvOutput<T>& to, const float* tile, const ConvAxis& y,
                                 const ConvAxis& x, int channel, int channels, int place, int places) {
  constexpr int kColumns = Tile::kN / kEpiloguePack, kStep = Tile::kThreads / kColumns;
  static_assert(Tile::kThreads % kColumns == 0 && Tile::kSumStride % 4 == 0);
  const int first = threadIdx.x / kColumns, t = threadIdx.x % kColumns, plane = to.height * to.width;
  const auto column = [&](int e) { return in_packs ? t * kEpiloguePack + e : t + e * kColumns; };
  int64_t at[kEpiloguePack];
#pragma unroll
  for (int e = 0; e < (in_packs ? 1 : kEpiloguePack); ++e)
    at[e] = place_of(to, y, x, place + column(e), places);
  if (in_packs && at[0] < 0) return;
  const int rows = channels < Tile::kM ? channels : Tile::kM;
  for (int row = first; row < rows; row += kRowsInFlight * kStep) {
    float v[kRowsInFlight][kEpiloguePack];
    Pack<T, kEpiloguePack> residual[kRowsInFlight] = {};
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {
      const int i = row + r * kStep;
      if (i >= rows) continue;
      const int64_t in_image = int64_t{channel + i} * plane;
      if constexpr (in_packs) {
        const auto sums = load<kEpiloguePack>(tile + i * Tile::kSumStride + column(0));
#pragma unroll
        for (int e = 0; e < kEpiloguePack; ++e) v[r][e] = sums.at[e];
        if (to.epilogue.residual) residual[r] = load<kEpiloguePack>(to.epilogue.residual + at[0] + in_image);
      } else {
#pragma unroll
        for (int e = 0; e < kEpiloguePack; ++e) {
          v[r][e] = tile[i * Tile::kSumStride + column(e)];
          if (to.epilogue.residual && at[e] >= 0) residual[r].at[e] = to.epilogue.residual[at[e] + in_image];
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {
      const int i = row + r * kStep;
      if (i >= rows) continue;
      const int64_t in_image = int64_t{channel + i} * plane;
#pragma unroll
      for (int e = 0; e < kEpiloguePack; ++e)
        v[r][e] = finish_conv_value(to.epilogue, v[r][e], channel + i, static_cast<float>(residual[r].at[e]));
      if constexpr (in_packs) {
        store<kEpiloguePack>(to.y + at[0] + in_image, round_pack<T>(v[r]));
      } else {
#pragma unroll
        for (int e = 0; e < kEpiloguePack; ++e)
          if (at[e] >= 0) to.y[at[e] + in_image] = T(v[r][e]);
      }
    }
  }
}

}  // namespace qfm
