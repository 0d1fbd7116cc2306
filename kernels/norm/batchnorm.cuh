// How the kernels of batchnorm.cu go over images (batch, channels, places), in packs of V elements.
#pragma once
#include "kernels/common/activate.h"
#include "kernels/common/cuda_loops.cuh"
#include "kernels/norm/batchnorm.h"

namespace qfm {

constexpr int kNormWarps = kThreads / 32;
constexpr int kHeld = 16;                     // elements of a thread, in registers
constexpr int64_t kSlice = kThreads * kHeld;  // elements of a block

// The n = batch places elements of each channel in slices: block b has slice b % slices of channel b / slices. Thread
// t holds the packs t, t + kThreads, ... of the slice.
struct ChannelSlices {
  int64_t channels, places;
  uint32_t n, slices;
  __device__ int64_t channel() const { return blockIdx.x / slices; }
  __device__ uint32_t slice() const { return blockIdx.x % slices; }
  // Elements of slice s.
  __device__ uint32_t size(uint32_t s) const { return s + 1 < slices ? kSlice : n - s * kSlice; }
  // f(k, where the pack begins) for the packs k of this thread that there are.
  template <int V, class F>
  __device__ void for_packs(F&& f) const {
    const auto row = static_cast<uint32_t>(places);
#pragma unroll
    for (int k = 0; k < kHeld / V; ++k) {
      const uint32_t element = slice() * kSlice + (k * kThreads + threadIdx.x) * V;
      if (element >= n) continue;
      const uint32_t image = element / row;
      f(k, (image * channels + channel()) * places + (element - image * row));
    }
  }
};

// The sum over the block, the same bits in each thread. part: shared, one a warp; a barrier must lie between two uses.
__device__ inline float norm_block_sum(float v, float* part) {
  v = warp_sum(v);
  if (lane_id() == 0) part[warp_id()] = v;
  __syncthreads();
  float sum = 0;
  for (int w = 0; w < kNormWarps; ++w) sum += part[w];
  return sum;
}

// v = scale (x - center) + shift.
struct ChannelLine {
  float center, scale, shift;
  __device__ float operator()(float x) const { return fmaf(x - center, scale, shift); }
};

// of(channel)(first element) for every pack of V elements of all planes; a thread has some packs of one plane.
constexpr int kPlanePacks = 4;
template <int V, class F>
__global__ void __launch_bounds__(kThreads)
    plane_packs_kernel(F of, int64_t planes, int64_t channels, int packs) {
  const int64_t plane = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (plane >= planes) return;
  const auto at = of(plane % channels);
  for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < packs; i += gridDim.y * blockDim.x)
    at.template run<V>((plane * packs + i) * V);
}
template <int V, class F>
void for_plane_packs(Cuda cuda, F of, const BatchNormShape& s) {
  const int64_t planes = s.batch * s.channels, packs = s.places / V;
  const dim3 block = matrix_block(packs);
  const dim3 grid(static_cast<unsigned>(ceil_div(planes, block.y)),
                  grid_size(ceil_div(packs, int64_t{block.x} * kPlanePacks)));
  launch<plane_packs_kernel<V, F>>(grid, block, 0, cuda.stream, of, planes, s.channels,
                                   static_cast<int>(packs));
}

}  // namespace qfm
