// Sums and norms on CUDA; the contracts are in reduce.h.
//
// Maths:  y[o, i] = sum_c x[o, c, i] f[o, c, i] / n;  max_c x[o, c, i];  sum x^2;  l2norm y = x / |x|, dx = (dy - y sum(dy y)) /
// |x|; cosine y = a . b / (|a| |b|), da = dy (b / |b| - y a / |a|) / |a|.
//
// Cost: every element is read once (l2norm reads and writes; the backwards of l2norm and cosine read a row twice, the second time from the L1 cache), 1 to 6 FLOPs each.
// At 3.35 TB/s: sum_squares of the 22 M gradients of ViT-S, 88 MB, floor 26 us; reduce_sum of the rows of 256 x 197 x
// 1536 in bf16, 155 MB, 46 us; over the tokens of 256 x 196 x 384 in bf16, 38.5 MB, 12 us; norms and cosines of a
// batch, the launch. Sums down columns run in two stages, slots of rows and then the slots; sums along a row
// belong to a warp. Norms and dot products are taken in double, as on the CPU.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/reduce/reduce.h"

namespace qfm {
namespace {

constexpr int kWarps = kThreads / 32;

template <int V, class T>
__device__ void products(float (&to)[V], const T* x, const T* factor, int64_t at) {
  const Pack<T, V> xs = load<V>(x + at);
  for (int k = 0; k < V; ++k) to[k] = static_cast<float>(xs.at[k]);
  if (!factor) return;
  const Pack<T, V> fs = load<V>(factor + at);
  for (int k = 0; k < V; ++k) to[k] *= static_cast<float>(fs.at[k]);
}

template <class T>
struct SumRow {
  const T *x, *factor;
  int64_t cols;
  template <int V>
  __device__ void add(float (&sum)[V], int64_t, int64_t row, int64_t column) const {
    float terms[V];
    products<V>(terms, x, factor, row * cols + column);
    for (int k = 0; k < V; ++k) sum[k] += terms[k];
  }
};

// An F of sum_all.
template <class T, class Out>
struct SumOf {
  const T *x, *factor;
  double divisor;
  template <int V>
  __device__ double at(int64_t i) const {
    float terms[V];
    products<V>(terms, x, factor, i);
    double sum = 0;
    for (int k = 0; k < V; ++k) sum += static_cast<double>(terms[k]);
    return sum;
  }
  __device__ Out finish(double sum) const { return Out(static_cast<float>(sum / divisor)); }
};

// A row belongs to a warp.
template <int V, class T, class Out>
__global__ void __launch_bounds__(kThreads)
    sum_along_rows_kernel(SumOf<T, Out> of, Out* y, int64_t rows, int64_t cols) {
  const int64_t row = int64_t{blockIdx.x} * (kThreads / 32) + warp_id();
  if (row >= rows) return;  // a whole warp; no barrier follows
  double sum = 0;
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) sum += of.template at<V>(row * cols + c);
  sum = warp_sum(sum);
  if (lane_id() == 0) y[row] = of.finish(sum);
}

__device__ inline float larger_or_nan(float a, float b) { return a > b || a != a ? a : b; }

// The block's rows of y share out the count, then the first of them compares what they found.
template <int V, class T>
__global__ void __launch_bounds__(kThreads) max_kernel(ReduceShape s, T* y, const T* x) {
  SHARED(float, part, [V][kThreads]);
  const int64_t column = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * V;
  for (int64_t o = blockIdx.y; o < s.outer; o += gridDim.y) {
    float most[V];
    for (float& m : most) m = -INFINITY;
    if (column < s.inner)
      for (int64_t c = threadIdx.y; c < s.count; c += blockDim.y) {
        const Pack<T, V> xs = load<V>(x + (o * s.count + c) * s.inner + column);
        for (int k = 0; k < V; ++k) most[k] = larger_or_nan(most[k], static_cast<float>(xs.at[k]));
      }
    for (int k = 0; k < V; ++k) part[k][threadIdx.y * blockDim.x + threadIdx.x] = most[k];
    __syncthreads();
    for (int k = 0; k < V && threadIdx.y == 0 && column < s.inner; ++k) {
      float all = part[k][threadIdx.x];
      for (unsigned r = 1; r < blockDim.y; ++r) all = larger_or_nan(all, part[k][r * blockDim.x + threadIdx.x]);
      y[o * s.inner + column + k] = T(all);
    }
    __syncthreads();
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

namespace {

struct DividedBy {
  float divisor;
  __device__ float operator()(float x) const { return x / divisor; }
};

template <class T, class Out>
void sum_along_rows(Cuda cuda, ReduceShape s, Out* y, const T* x, const T* factor, double divisor) {
  const SumOf<T, Out> of{x, factor, divisor};
  with_lanes<T>(s.count, {x, factor}, [&]<int V>(Lanes<V>) {
    if (s.outer == 1) sum_all<V>(cuda, of, y, s.count);
    else
      launch<sum_along_rows_kernel<V, T, Out>>(ceil_div(s.outer, kWarps), kThreads, 0, cuda.stream, of, y, s.outer,
                                               s.count);
  });
}

}  // namespace

template <class T, class Out>
void reduce_sum(Cuda cuda, ReduceShape s, Out* y, const T* x, const T* factor, double divisor) {
  if (s.outer == 0 || s.inner == 0) return;
  if (s.inner == 1) return sum_along_rows(cuda, s, y, x, factor, divisor);
  const SumRow<T> of{x, factor, s.inner};
  with_lanes<T>(s.inner, {x, factor}, [&]<int V>(Lanes<V>) {
    if (s.outer > 1)
      return column_sums<V>(cuda, of, y, s.outer * s.count, s.count, s.outer, s.inner, static_cast<float>(divisor));
    if constexpr (std::is_same_v<Out, float>)
      if (divisor == 1) return column_sums_of_all<V>(cuda, of, y, s.count, s.inner);
    const DeviceScratch sums(s.inner * sizeof(float));
    column_sums_of_all<V>(cuda, of, sums.as<float>(), s.count, s.inner);
    map_elements(cuda, DividedBy{static_cast<float>(divisor)}, s.inner, y, sums.as<const float>());
  });
}

template <class T>
void reduce_max(Cuda cuda, ReduceShape s, T* y, const T* x) {
  if (s.outer == 0 || s.inner == 0) return;
  with_lanes<T>(s.inner, {x}, [&]<int V>(Lanes<V>) {
    const dim3 block = matrix_block(ceil_div(s.inner, V));
    const dim3 grid(static_cast<unsigned>(ceil_div(ceil_div(s.inner, V), block.x)), grid_size(s.outer));
    launch<max_kernel<V, T>>(grid, block, 0, cuda.stream, s, y, x);
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
  template void reduce_sum(Cuda, ReduceShape, float*, const T*, const T*, double);                      \
  template void reduce_max(Cuda, ReduceShape, T*, const T*);                                            \
  template void sum_squares(Cuda, double*, const T*, int64_t);                                          \
  template void l2norm_forward(Cuda, T*, acc<T>*, const T*, int64_t, int64_t, double);                  \
  template void l2norm_backward(Cuda, T*, const T*, const T*, const acc<T>*, int64_t, int64_t, double); \
  template void cosine_forward(Cuda, T*, const T*, const T*, int64_t, int64_t, double);                 \
  template void cosine_backward(Cuda, T*, T*, const T*, const T*, const T*, int64_t, int64_t, double);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE
template void reduce_sum(Cuda, ReduceShape, bf16*, const bf16*, const bf16*, double);

}  // namespace qfm
