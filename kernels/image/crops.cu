// Crops on CUDA; the contract is in crops.h.
//
// Maths:  out[c, y, x] = (pixel / 255 - mean[c]) / std[c], columns from right to left where mirrored.
//
// Cost, for B crops of n pixels: 3 B n bytes of pixels read, 3 B n e written (B = 256, n = 224 x 224, bf16:
// 116 MB, floor 35 us at 3.35 TB/s). Two divisions a value would take longer than that, and there are only
// 256 values a channel: each block makes a table of them in shared memory, by the formula, so the numbers are
// the CPU's, and a value costs no FLOP, but a look into the table.
#include "engine/base/error.h"
#include "kernels/common/cuda_loops.cuh"
#include "kernels/image/crops.h"

namespace qfm {
namespace {

constexpr int kPacksPerThread = 4;  // so that the table is made once for many

template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    crop_normalise_kernel(T* out, const CropSource* sources, ChannelScale scale, int64_t batch, int crop) {
  SHARED(float, table, [3][256]);
  for (int c = 0; c < 3; ++c)
    for (int v = static_cast<int>(threadIdx.x); v < 256; v += kThreads)
      table[c][v] = (static_cast<float>(v) / 255.0f - scale.mean[c]) / scale.std[c];
  __syncthreads();
  const int plane = crop * crop, step = static_cast<int>(gridDim.x) * kThreads * V;
  for (int64_t b = blockIdx.y; b < batch; b += gridDim.y) {
    const CropSource s = sources[b];
    T* to = out + b * 3 * plane;
    for (int i = (static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x)) * V; i < plane;
         i += step) {
      const int y = i / crop, x = i % crop;
      const uint8_t* row = s.pixels + 3 * (int64_t{s.top + y} * s.width + s.left);
      Pack<T, V> packs[3];
      for (int k = 0; k < V; ++k) {
        const uint8_t* pixel = row + 3 * (s.mirror ? crop - 1 - (x + k) : x + k);
        for (int c = 0; c < 3; ++c) packs[c].at[k] = T(table[c][pixel[c]]);
      }
      for (int c = 0; c < 3; ++c) store<V>(to + int64_t{c} * plane + i, packs[c]);
    }
  }
}

}  // namespace

template <class T>
void crop_normalise(Cuda cuda, T* out, const CropSource* sources, ChannelScale scale, int64_t batch,
                    int64_t crop) {
  QFM_CHECK(crop >= 0 && crop <= 1 << 14, "crop_normalise: crops of ", crop, " pixels are out of range");
  if (batch == 0 || crop == 0) return;
  with_lanes<T>(crop, {out}, [&]<int V>(Lanes<V>) {
    const dim3 grid(static_cast<unsigned>(ceil_div(crop * crop, kThreads * V * kPacksPerThread)),
                    grid_size(batch));
    launch<crop_normalise_kernel<T, V>>(grid, kThreads, 0, cuda.stream, out, sources, scale, batch,
                                        static_cast<int>(crop));
  });
}

template void crop_normalise(Cuda, float*, const CropSource*, ChannelScale, int64_t, int64_t);
template void crop_normalise(Cuda, bf16*, const CropSource*, ChannelScale, int64_t, int64_t);

}  // namespace qfm
