// Sums and norms on CUDA; the contracts are in reduce.h.
//
// Maths:  y[j] = sum_i x[i, j];  mean over tokens;  sum x^2;  l2norm y = x / |x|, dx = (dy - y sum(dy y)) /
// |x|; cosine y = a . b / (|a| |b|), da = dy (b / |b| - y a / |a|) / |a|.
//
// Cost: every element is read once (mean_tokens_backward: written once; l2norm reads and writes; the
// backwards of l2norm and cosine read a row twice, the second time from the L1 cache), 1 to 6 FLOPs each.
// At 3.35 TB/s: sum_squares of the 22 M gradients of ViT-S, 88 MB, floor 26 us; sum_rows of 256 x 197 x 1536
// in bf16, 155 MB, 46 us; mean_tokens of 256 x 196 x 384 in bf16, 38.5 MB, 12 us; norms and cosines of a
// batch, the launch. Sums down columns run in two stages, slots of rows and then the slots; sums along a row
// belong to a warp. Norms and dot products are taken in double, as on the CPU.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/reduce/reduce.h"

namespace qfm {
namespace {

constexpr int kWarps = kThreads / 32;

template <class T>
struct SumRow {
  const T* x;
  int64_t cols;
  template <int V>
  __device__ void add(float (&sum)[V], int64_t, int64_t row, int64_t column) const {
    const Pack<T, V> xs = load<V>(x + row * cols + column);
    for (int k = 0; k < V; ++k) sum[k] += static_cast<float>(xs.at[k]);
  }
};

template <int V, class T>
__global__ void __launch_bounds__(kThreads)
    mean_tokens_backward_kernel(T* dx, const T* dy, int64_t batch, int64_t tokens, int64_t dim) {
  const int64_t d = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * V;
  if (d >= dim) return;  // no barrier follows
  const int64_t first = int64_t{blockIdx.y} * blockDim.y + threadIdx.y,
                step = int64_t{gridDim.y} * blockDim.y;
  for (int64_t b = blockIdx.z; b < batch; b += gridDim.z) {
    Pack<T, V> shares = load<V>(dy + b * dim + d);
    for (int k = 0; k < V; ++k)
      shares.at[k] = T(static_cast<float>(shares.at[k]) / static_cast<float>(tokens));
    for (int64_t t = first; t < tokens; t += step) store<V>(dx + (b * tokens + t) * dim + d, shares);
  }
}

template <class T>
__device__ double wide(T x) {
  return static_cast<double>(static_cast<float>(x));
}
template <class T>
__device__ T narrow(double x) {
  return T(static_cast<float>(x));
}
__device__ inline double larger(double a, double b) { return a < b ? b : a; }

// The dot product of two rows, in each lane of the warp.
template <int V, class T>
__device__ double warp_dot(const T* a, const T* b, int64_t cols) {
  double sum = 0;
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<T, V> as = load<V>(a + c), bs = load<V>(b + c);
    for (int i = 0; i < V; ++i) sum += wide(as.at[i]) * wide(bs.at[i]);
  }
  return warp_sum(sum);
}

template <int V, class T>
__global__ void __launch_bounds__(kThreads)
    l2norm_forward_kernel(T* y, float* norm, const T* x, int64_t rows, int64_t cols, double eps) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp_id();
  if (row >= rows) return;  // a whole warp; no barrier follows
  x += row * cols, y += row * cols;
  const double length = sqrt(warp_dot<V>(x, x, cols)), divisor = larger(length, eps);
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    Pack<T, V> ys = load<V>(x + c);
    for (int i = 0; i < V; ++i) ys.at[i] = narrow<T>(wide(ys.at[i]) / divisor);
    store<V>(y + c, ys);
  }
  if (lane_id() == 0) norm[row] = static_cast<float>(length);
}

template <int V, class T>
__global__ void __launch_bounds__(kThreads)
    l2norm_backward_kernel(T* dx, const T* dy, const T* y, const float* norm, int64_t rows, int64_t cols,
                           double eps) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp_id();
  if (row >= rows) return;  // a whole warp; no barrier follows
  dx += row * cols, dy += row * cols, y += row * cols;
  const double length = norm[row], divisor = larger(length, eps);
  const double dot = warp_dot<V>(dy, y, cols), along = length < eps ? 0 : dot;
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<T, V> dys = load<V>(dy + c), ys = load<V>(y + c);
    Pack<T, V> dxs;
    for (int i = 0; i < V; ++i) dxs.at[i] = narrow<T>((wide(dys.at[i]) - wide(ys.at[i]) * along) / divisor);
    store<V>(dx + c, dxs);
  }
}

// What cosine knows of a pair of rows.
struct Angle {
  double size_a, size_b, cosine;
};
template <int V, class T>
__device__ Angle angle_of(const T* a, const T* b, int64_t cols, double eps) {
  const double size_a = sqrt(warp_dot<V>(a, a, cols)), size_b = sqrt(warp_dot<V>(b, b, cols));
  return {size_a, size_b, warp_dot<V>(a, b, cols) / (larger(size_a, eps) * larger(size_b, eps))};
}

template <int V, class T>
__global__ void __launch_bounds__(kThreads)
    cosine_forward_kernel(T* y, const T* a, const T* b, int64_t rows, int64_t cols, double eps) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp_id();
  if (row >= rows) return;  // a whole warp; no barrier follows
  const Angle angle = angle_of<V>(a + row * cols, b + row * cols, cols, eps);
  if (lane_id() == 0) y[row] = narrow<T>(angle.cosine);
}

template <int V, class T>
__global__ void __launch_bounds__(kThreads)
    cosine_backward_kernel(T* da, T* db, const T* dy, const T* a, const T* b, int64_t rows, int64_t cols,
                           double eps) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp_id();
  if (row >= rows) return;  // a whole warp; no barrier follows
  a += row * cols, b += row * cols, da += row * cols, db += row * cols;
  const Angle angle = angle_of<V>(a, b, cols, eps);
  const double na = larger(angle.size_a, eps), nb = larger(angle.size_b, eps), g = wide(dy[row]);
  const double ya = angle.size_a < eps ? 0 : angle.cosine, yb = angle.size_b < eps ? 0 : angle.cosine;
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<T, V> as = load<V>(a + c), bs = load<V>(b + c);
    Pack<T, V> das, dbs;
    for (int i = 0; i < V; ++i) {
      const double u = wide(as.at[i]) / na, w = wide(bs.at[i]) / nb;
      das.at[i] = narrow<T>(g * (w - ya * u) / na);
      dbs.at[i] = narrow<T>(g * (u - yb * w) / nb);
    }
    store<V>(da + c, das), store<V>(db + c, dbs);
  }
}

}  // namespace

template <class T>
void sum_rows(Cuda cuda, acc<T>* y, const T* x, int64_t rows, int64_t cols) {
  if (cols == 0) return;
  with_lanes<T>(cols, {x}, [&]<int V>(Lanes<V>) {
    column_sums_of_all<V>(cuda, SumRow<T>{x, cols}, y, rows, cols);
  });
}

template <class T>
void mean_tokens_forward(Cuda cuda, T* y, const T* x, int64_t batch, int64_t tokens, int64_t dim) {
  if (batch == 0 || dim == 0) return;
  with_lanes<T>(dim, {x}, [&]<int V>(Lanes<V>) {
    column_sums<V>(cuda, SumRow<T>{x, dim}, y, batch * tokens, tokens, batch, dim,
                   static_cast<float>(tokens));
  });
}

template <class T>
void mean_tokens_backward(Cuda cuda, T* dx, const T* dy, int64_t batch, int64_t tokens, int64_t dim) {
  if (batch == 0 || tokens == 0 || dim == 0) return;
  with_lanes<T>(dim, {dx, dy}, [&]<int V>(Lanes<V>) {
    const dim3 block = matrix_block(dim / V);
    const dim3 grid(static_cast<unsigned>(ceil_div(dim / V, block.x)), grid_size(ceil_div(tokens, block.y)),
                    grid_size(batch));
    launch<mean_tokens_backward_kernel<V, T>>(grid, block, 0, cuda.stream, dx, dy, batch, tokens, dim);
  });
}

template <class T>
void sum_squares(Cuda cuda, double* sum, const T* x, int64_t n) {
  if (in_packs_of<kPack<T>>(x)) sum_all<kPack<T>>(cuda, Squares<T>{x}, sum, n);
  else sum_all<1>(cuda, Squares<T>{x}, sum, n);
}

template <class T>
void l2norm_forward(Cuda cuda, T* y, acc<T>* norm, const T* x, int64_t rows, int64_t cols, double eps) {
  if (rows == 0) return;
  with_lanes<T>(cols, {y, x}, [&]<int V>(Lanes<V>) {
    launch<l2norm_forward_kernel<V, T>>(ceil_div(rows, kWarps), kThreads, 0, cuda.stream, y, norm, x, rows,
                                        cols, eps);
  });
}

template <class T>
void l2norm_backward(Cuda cuda, T* dx, const T* dy, const T* y, const acc<T>* norm, int64_t rows,
                     int64_t cols, double eps) {
  if (rows == 0) return;
  with_lanes<T>(cols, {dx, dy, y}, [&]<int V>(Lanes<V>) {
    launch<l2norm_backward_kernel<V, T>>(ceil_div(rows, kWarps), kThreads, 0, cuda.stream, dx, dy, y, norm,
                                         rows, cols, eps);
  });
}

template <class T>
void cosine_forward(Cuda cuda, T* y, const T* a, const T* b, int64_t rows, int64_t cols, double eps) {
  if (rows == 0) return;
  with_lanes<T>(cols, {a, b}, [&]<int V>(Lanes<V>) {
    launch<cosine_forward_kernel<V, T>>(ceil_div(rows, kWarps), kThreads, 0, cuda.stream, y, a, b, rows, cols,
                                        eps);
  });
}

template <class T>
void cosine_backward(Cuda cuda, T* da, T* db, const T* dy, const T* a, const T* b, int64_t rows, int64_t cols,
                     double eps) {
  if (rows == 0) return;
  with_lanes<T>(cols, {da, db, a, b}, [&]<int V>(Lanes<V>) {
    launch<cosine_backward_kernel<V, T>>(ceil_div(rows, kWarps), kThreads, 0, cuda.stream, da, db, dy, a, b,
                                         rows, cols, eps);
  });
}

#define QFM_INSTANTIATE(T)                                                                              \
  template void sum_rows(Cuda, acc<T>*, const T*, int64_t, int64_t);                                    \
  template void sum_squares(Cuda, double*, const T*, int64_t);                                          \
  template void mean_tokens_forward(Cuda, T*, const T*, int64_t, int64_t, int64_t);                     \
  template void mean_tokens_backward(Cuda, T*, const T*, int64_t, int64_t, int64_t);                    \
  template void l2norm_forward(Cuda, T*, acc<T>*, const T*, int64_t, int64_t, double);                  \
  template void l2norm_backward(Cuda, T*, const T*, const T*, const acc<T>*, int64_t, int64_t, double); \
  template void cosine_forward(Cuda, T*, const T*, const T*, int64_t, int64_t, double);                 \
  template void cosine_backward(Cuda, T*, T*, const T*, const T*, const T*, int64_t, int64_t, double);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
