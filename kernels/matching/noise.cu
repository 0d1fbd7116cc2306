// Semantic noise that is drawn, and the strength of any, on CUDA; the contracts are in noise.h.
//
// Maths:  normal = sqrt(-2 ln u) cos(2 pi v), u and v from Philox;  factor = strength size / noise_norm;
// variance[d] = sum_b w_b mean_t (x - mean[d])^2 of x = factor noise.
//
// Cost: draw_normal writes each number once (16 x 196 x 192 floats: 2.4 MB, floor 0.7 us at 3.35 TB/s) and
// takes half a Philox block (about 60 integer operations), a logarithm, a root and a cosine in double for it,
// some 60 FLOPs (36 MFLOP: 1 us at the 34 TFLOP/s of an H100, far more on chips with few double units).
// noise_variance reads the noise twice (4.8 MB: 1.4 us), 5 FLOPs an element. The others touch a few numbers an
// image: what counts is the launch.
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

struct Factor {
  __device__ float operator()(float strength, float size, float noise_norm) const {
    return noise_norm == 0 ? 0.0f : strength * size / noise_norm;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    keep_stronger_kernel(float* strength, float* change, const float* trial, const T* score, const T* clean,
                         int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;  // no barrier follows
  const float moved = fabsf(static_cast<float>(score[i]) - static_cast<float>(clean[i]));
  if (moved > change[i]) strength[i] = trial[i], change[i] = moved;
}

// share x, or with a mean share (x - mean)^2, of row (b, t): x = factor[b] noise, share = weight[b] / tokens.
template <class T>
struct NoiseMoment {
  const T* noise;
  const float *factor, *weight, *mean;
  int64_t tokens, dim;
  template <int V>
  __device__ void add(float (&sum)[V], int64_t, int64_t row, int64_t column) const {
    const int64_t b = row / tokens;
    if (weight[b] == 0) return;
    const float share = weight[b] / static_cast<float>(tokens);
    const Pack<T, V> xs = load<V>(noise + row * dim + column);
    for (int k = 0; k < V; ++k) {
      const float x = factor[b] * static_cast<float>(xs.at[k]);
      const float d = mean ? x - mean[column + k] : 0.0f;
      sum[k] += share * (mean ? d * d : x);
    }
  }
};

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

template <>
void noise_factor(Cuda cuda, float* factor, const float* strength, const float* size, const float* noise_norm,
                  int64_t n) {
  map_elements(cuda, Factor{}, n, factor, strength, size, noise_norm);
}

template <class T>
void keep_worst_case(Cuda cuda, acc<T>* strength, acc<T>* change, const acc<T>* trial, const T* score,
                     const T* clean, int64_t n) {
  if (n == 0) return;
  launch<keep_stronger_kernel<T>>(ceil_div(n, kThreads), kThreads, 0, cuda.stream, strength, change, trial,
                                  score, clean, n);
}

template <class T>
void noise_variance(Cuda cuda, acc<T>* variance, const T* noise, const acc<T>* factor, const acc<T>* weight,
                    int64_t batch, int64_t tokens, int64_t dim) {
  if (dim == 0) return;
  const DeviceScratch mean(dim * sizeof(float));
  NoiseMoment<T> moment{noise, factor, weight, nullptr, tokens, dim};
  with_lanes<T>(dim, {noise}, [&]<int V>(Lanes<V>) {
    column_sums_of_all<V>(cuda, moment, mean.as<float>(), batch * tokens, dim);
    moment.mean = mean.as<float>();
    column_sums_of_all<V>(cuda, moment, variance, batch * tokens, dim);
  });
}

#define QFM_INSTANTIATE(T)                                                                              \
  template void draw_normal(Cuda, T*, const StreamName*, int64_t, int64_t);                             \
  template void keep_worst_case(Cuda, acc<T>*, acc<T>*, const acc<T>*, const T*, const T*, int64_t);    \
  template void noise_variance(Cuda, acc<T>*, const T*, const acc<T>*, const acc<T>*, int64_t, int64_t, \
                               int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
