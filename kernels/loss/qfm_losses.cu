// The method's losses on CUDA; the contracts are in qfm_losses.h.
//
// Maths:  weighted_smooth_l1 sum_i w_i l(x_i - y_i);  cosine_distance sum_b w_b mean_r (1 - cos(a_br, c_br));
// selection_loss sum_d mean_i(h_id^2) v_d / sum_d v_d, h = g / mean(g);  similarity_cross_entropy
// -sum_ij t_ij log softmax_j(u_i . u_j / T), j other than i;  each with its gradient.
//
// Cost, for a batch of 256: weighted_smooth_l1 and selection_loss read at most 256 x 384 numbers (0.4 MB),
// cosine_distance 256 x 6 x 384 twice (5 MB in floats: floor 1.4 us at 3.35 TB/s, 6 FLOPs a number),
// similarity_cross_entropy multiplies 2 x 256^2 x 384 times 2 FLOPs (0.1 GFLOP: 1.5 us at 67 TFLOP/s). Each
// is a few microseconds, of which the launches are most; no value leaves the device.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/loss/loss_point.h"
#include "kernels/loss/qfm_losses.h"

namespace qfm {
namespace {

constexpr int kWarps = kThreads / 32;  // of a block, one a row

template <class T>
struct WeightedLoss {
  SmoothL1Point point;
  T* grad;
  const T *prediction, *target;
  const float* weight;
  template <int V>
  __device__ double at(int64_t i) const {
    const double w = weight[i];
    double slope;
    const double value =
        point(static_cast<double>(static_cast<float>(prediction[i])) - static_cast<float>(target[i]), slope);
    grad[i] = T(static_cast<float>(w == 0 ? 0.0 : w * slope));
    return w == 0 ? 0.0 : w * value;
  }
  __device__ float finish(double sum) const { return static_cast<float>(sum); }
};

// What sums parts that other kernels left.
struct Parts {
  const float* part;
  template <int V>
  __device__ double at(int64_t i) const {
    return part[i];
  }
  __device__ float finish(double sum) const { return static_cast<float>(sum); }
};

// A warp for a row of a and c; part[row] = its share of the loss.
template <class T>
__global__ void __launch_bounds__(kThreads)
    cosine_distance_kernel(float* part, T* grad, const T* a, const T* c, const float* weight, int64_t all,
                           int64_t rows, int64_t cols, float eps) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp_id();
  if (row >= all) return;  // a whole warp; no barrier follows
  const float share = weight[row / rows] / static_cast<float>(rows);
  a += row * cols, c += row * cols, grad += row * cols;
  float aa = 0, cc = 0, ac = 0;
  for (int64_t j = lane_id(); j < cols; j += 32) {
    const float p = static_cast<float>(a[j]), q = static_cast<float>(c[j]);
    aa = fmaf(p, p, aa), cc = fmaf(q, q, cc), ac = fmaf(p, q, ac);
  }
  const float size = sqrtf(warp_sum(aa)), na = fmaxf(size, eps), nc = fmaxf(sqrtf(warp_sum(cc)), eps);
  const float cosine = warp_sum(ac) / (na * nc), along = size < eps ? 0.0f : cosine;
  for (int64_t j = lane_id(); j < cols; j += 32) {
    const float slope = -share * (static_cast<float>(c[j]) / nc - along * static_cast<float>(a[j]) / na) / na;
    grad[j] = T(share == 0 ? 0.0f : slope);
  }
  if (lane_id() == 0) part[row] = share == 0 ? 0.0f : share * (1 - cosine);
}

// A warp for the gates of an image; part[i] = its share of the loss. Each warp sums v for itself:
// dim is short.
template <class T>
__global__ void __launch_bounds__(kThreads)
    selection_loss_kernel(float* part, T* dg, const T* g, const float* v, int64_t batch, int64_t dim) {
  const int64_t i = int64_t{blockIdx.x} * kWarps + warp_id();
  if (i >= batch) return;  // a whole warp; no barrier follows
  g += i * dim, dg += i * dim;
  float total = 0, mean = 0, moved = 0;
  for (int64_t d = lane_id(); d < dim; d += 32) total += v[d], mean += static_cast<float>(g[d]);
  total = warp_sum(total), mean = warp_sum(mean) / static_cast<float>(dim);
  const float share = total == 0 ? 0.0f : 1 / (static_cast<float>(batch) * total);
  for (int64_t d = lane_id(); d < dim; d += 32) {
    const float h = static_cast<float>(g[d]) / mean;
    moved = fmaf(h * h, v[d], moved);
  }
  moved = warp_sum(moved);
  for (int64_t d = lane_id(); d < dim; d += 32)
    dg[d] = T(2 * share / mean * (static_cast<float>(g[d]) / mean * v[d] - moved / static_cast<float>(dim)));
  if (lane_id() == 0) part[i] = share * moved;
}

// A warp for a row i of G: similarities, their softmax without the row itself, G; part[i] = the row's loss.
template <class T>
__global__ void __launch_bounds__(kThreads)
    similarity_rows_kernel(float* part, float* G, const T* u, const float* target, float temperature,
                           int64_t n, int64_t dim) {
  const int64_t i = int64_t{blockIdx.x} * kWarps + warp_id();
  if (i >= n) return;  // a whole warp; no block barrier follows
  G += i * n, target += i * n;
  float most = -3.4e38f;  // below any similarity
  for (int64_t j = 0; j < n; ++j) {
    float dot = 0;
    for (int64_t d = lane_id(); d < dim; d += 32)
      dot = fmaf(static_cast<float>(u[i * dim + d]), static_cast<float>(u[j * dim + d]), dot);
    dot = warp_sum(dot) / temperature;
    if (lane_id() == 0) G[j] = dot;
    if (j != i) most = fmaxf(most, dot);
  }
  __syncwarp();
  float sum = 0, weight = 0;
  for (int64_t j = lane_id(); j < n; j += 32)
    if (j != i) sum += expf(G[j] - most), weight += target[j];
  sum = warp_sum(sum), weight = warp_sum(weight);
  float loss = 0;
  for (int64_t j = lane_id(); j < n; j += 32) {
    const float log_p = G[j] - most - logf(sum);
    if (j != i) loss -= target[j] * log_p;
    G[j] = j == i ? 0.0f : weight * expf(log_p) - target[j];
  }
  loss = warp_sum(loss);
  if (lane_id() == 0) part[i] = loss;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    similarity_gradient_kernel(T* du, const float* G, const T* u, float temperature, int64_t n, int64_t dim) {
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < n * dim;
       at += int64_t{gridDim.x} * kThreads) {
    const int64_t i = at / dim, d = at % dim;
    float sum = 0;
    for (int64_t j = 0; j < n; ++j)
      sum = fmaf(G[i * n + j] + G[j * n + i], static_cast<float>(u[j * dim + d]), sum);
    du[at] = T(sum / temperature);
  }
}

}  // namespace

template <class T>
void weighted_smooth_l1(Cuda cuda, acc<T>* loss, T* grad, const T* prediction, const T* target,
                        const acc<T>* weight, double beta, int64_t n) {
  sum_all<1>(cuda, WeightedLoss<T>{{beta}, grad, prediction, target, weight}, loss, n);
}

template <class T>
void cosine_distance(Cuda cuda, acc<T>* loss, T* grad, const T* a, const T* c, const acc<T>* weight,
                     int64_t batch, int64_t rows, int64_t cols, double eps) {
  const int64_t all = batch * rows;
  const DeviceScratch part(all * sizeof(float));
  if (all > 0)
    launch<cosine_distance_kernel<T>>(ceil_div(all, kWarps), kThreads, 0, cuda.stream, part.as<float>(), grad,
                                      a, c, weight, all, rows, cols, static_cast<float>(eps));
  sum_all<1>(cuda, Parts{part.as<float>()}, loss, all);
}

template <class T>
void selection_loss(Cuda cuda, acc<T>* loss, T* dg, const T* g, const acc<T>* v, int64_t batch, int64_t dim) {
  const DeviceScratch part(batch * sizeof(float));
  if (batch > 0)
    launch<selection_loss_kernel<T>>(ceil_div(batch, kWarps), kThreads, 0, cuda.stream, part.as<float>(), dg,
                                     g, v, batch, dim);
  sum_all<1>(cuda, Parts{part.as<float>()}, loss, batch);
}

template <class T>
void similarity_cross_entropy(Cuda cuda, acc<T>* loss, T* du, acc<T>* workspace, const T* u,
                              const acc<T>* target, double temperature, int64_t n, int64_t dim) {
  const auto t = static_cast<float>(temperature);
  float* part = workspace + n * n;
  if (n > 0 && dim > 0) {
    launch<similarity_rows_kernel<T>>(ceil_div(n, kWarps), kThreads, 0, cuda.stream, part, workspace, u,
                                      target, t, n, dim);
    launch<similarity_gradient_kernel<T>>(std::min<int64_t>(ceil_div(n * dim, kThreads), 65535), kThreads, 0,
                                          cuda.stream, du, workspace, u, t, n, dim);
  }
  sum_all<1>(cuda, Parts{part}, loss, n);
}

#define QFM_INSTANTIATE(T)                                                                                 \
  template void weighted_smooth_l1(Cuda, acc<T>*, T*, const T*, const T*, const acc<T>*, double, int64_t); \
  template void cosine_distance(Cuda, acc<T>*, T*, const T*, const T*, const acc<T>*, int64_t, int64_t,    \
                                int64_t, double);                                                          \
  template void selection_loss(Cuda, acc<T>*, T*, const T*, const acc<T>*, int64_t, int64_t);              \
  template void similarity_cross_entropy(Cuda, acc<T>*, T*, acc<T>*, const T*, const acc<T>*, double,      \
                                         int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
