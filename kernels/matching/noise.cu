// Semantic noise that is drawn, and the strength of any, on CUDA; the contracts are in noise.h.
//
// Maths:  normal = sqrt(-2 ln u) cos(2 pi v), u and v from Philox.
//
// Cost: draw_normal writes each number once (16 x 196 x 192 floats: 2.4 MB, floor 0.7 us at 3.35 TB/s) and
// takes half a Philox block (about 60 integer operations), a logarithm, a root and a cosine in double for it,
// some 60 FLOPs (36 MFLOP: 1 us at the 34 TFLOP/s of an H100, far more on chips with few double units).
// The others touch a few numbers an image: what counts is the launch.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/matching/noise.h"

namespace qfm {
namespace {

// Every thread counts all: a batch is short, and no thread waits for another.
__global__ void __launch_bounds__(kThreads)
    match_weights_kernel(float* weight, const int32_t* partner, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;  // no barrier follows
  int matched = 0;
  for (int64_t j = 0; j < n; ++j) matched += partner[j] >= 0;
  weight[i] = partner[i] >= 0 ? 1.0f / static_cast<float>(matched) : 0.0f;
}

// A thread makes the two numbers of one block of the stream.
template <class T>
__global__ void __launch_bounds__(kThreads)
    draw_normal_kernel(T* noise, const StreamName* streams, int64_t batch, int64_t inner) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t b = blockIdx.y; b < batch; b += gridDim.y) {
    const StreamName stream = streams[b];
    for (int64_t block = int64_t{blockIdx.x} * kThreads + threadIdx.x; 2 * block < inner; block += step) {
      const PhiloxBlock words = stream.block(static_cast<uint32_t>(block));
      T* to = noise + b * inner + 2 * block;
      to[0] = T(normal_of(words.at[0], words.at[1]));
      if (2 * block + 1 < inner) to[1] = T(normal_of(words.at[2], words.at[3]));
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    keep_stronger_kernel(float* strength, float* change, const float* trial, const T* score, const T* clean,
                         int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;  // no barrier follows
  const float moved = fabsf(static_cast<float>(score[i]) - static_cast<float>(clean[i]));
  if (moved > change[i]) strength[i] = trial[i], change[i] = moved;
}

}  // namespace

template <>
void match_weights(Cuda cuda, float* weight, const int32_t* partner, int64_t n) {
  if (n == 0) return;
  launch<match_weights_kernel>(ceil_div(n, kThreads), kThreads, 0, cuda.stream, weight, partner, n);
}

template <class T>
void draw_normal(Cuda cuda, T* noise, const StreamName* streams, int64_t batch, int64_t inner) {
  if (batch == 0 || inner == 0) return;
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>(ceil_div(inner, 2 * kThreads), 1 << 20)),
                  grid_size(batch));
  launch<draw_normal_kernel<T>>(grid, kThreads, 0, cuda.stream, noise, streams, batch, inner);
}

template <class T>
void keep_worst_case(Cuda cuda, acc<T>* strength, acc<T>* change, const acc<T>* trial, const T* score,
                     const T* clean, int64_t n) {
  if (n == 0) return;
  launch<keep_stronger_kernel<T>>(ceil_div(n, kThreads), kThreads, 0, cuda.stream, strength, change, trial,
                                  score, clean, n);
}

#define QFM_INSTANTIATE(T)                                                                              \
  template void draw_normal(Cuda, T*, const StreamName*, int64_t, int64_t);                             \
  template void keep_worst_case(Cuda, acc<T>*, acc<T>*, const acc<T>*, const T*, const T*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
