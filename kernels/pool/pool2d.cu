// Pooling on CUDA; the contracts are in pool2d.h. A thread has one element of the result: of y, or of dx, for which it
// goes over the windows that may hold it. So nothing is added by two threads, and sums have one order.
//
// Cost, for planes of P elements that become Q (64 x 64 x 112 x 112 -> 56 x 56, bf16, 3.35 TB/s): each array once, a
// window's overlap comes from the caches. Forward P + Q elements of e bytes and 4 Q of indices (180 MB: floor 54 us),
// backward the same.
#include "engine/base/error.h"
#include "kernels/common/cuda_loops.cuh"
#include "kernels/pool/pool2d.h"
#include "kernels/pool/pool_taps.h"

namespace qfm {
namespace {

// What the kernels below know of a plane's two sides: n elements of the result, which come as (plane, row, column).
struct Planes {
  int64_t planes;
  int rows, cols, from_rows, from_cols;  // of the result, of what it is made of
  __host__ __device__ int64_t size() const { return planes * rows * cols; }
  __host__ __device__ int64_t from_size() const { return int64_t{from_rows} * from_cols; }
};

// result[i] = of(plane, row, column).
template <class T, class F>
__global__ void __launch_bounds__(kThreads) pool_kernel(Planes p, F of, T* result) {
  const uint32_t places = p.rows * p.cols;
  for (int64_t plane = blockIdx.y; plane < p.planes; plane += gridDim.y)
    for (uint32_t i = blockIdx.x * kThreads + threadIdx.x; i < places; i += gridDim.x * kThreads) {
      const int row = i / p.cols, col = i % p.cols;
      result[plane * places + i] = T(of(plane, row, col));
    }
}
template <class T, class F>
void for_places(Cuda cuda, const Planes& p, F of, T* result) {
  if (p.size() == 0) return;
  const int64_t places = int64_t{p.rows} * p.cols;
  QFM_CHECK(places < int64_t{1} << 31 && p.from_size() < int64_t{1} << 31, "pool2d: a plane of ", places,
            " elements is too large");
  const dim3 grid(static_cast<unsigned>(ceil_div(places, kThreads)), grid_size(p.planes));
  launch<pool_kernel<T, F>>(grid, kThreads, 0, cuda.stream, p, of, result);
}

template <class T>
struct MaxForward {
  Planes p;
  Window y, x;
  int32_t* at;
  const T* from;
  __device__ float operator()(int64_t plane, int row, int col) const {
    const Span down = taps_inside(y, row, p.from_rows), along = taps_inside(x, col, p.from_cols);
    const T* values = from + plane * p.from_size();
    const int64_t top = row * y.stride - y.pad_begin, left = col * x.stride - x.pad_begin;
    const auto place = [&](int64_t u, int64_t v) {
      return static_cast<int>((top + u * y.dilation) * p.from_cols + left + v * x.dilation);
    };
    float most = -INFINITY;
    int where = place(down.begin, along.begin);
    for (int64_t u = down.begin; u < down.end; ++u)
      for (int64_t v = along.begin; v < along.end; ++v) {
        const int here = place(u, v);
        const auto value = static_cast<float>(values[here]);
        if (value > most || (value != value && most == most)) most = value, where = here;
      }
    if (at) at[(plane * p.rows + row) * p.cols + col] = where;
    return most;
  }
};

template <class T>
struct MaxBackward {
  Planes p;
  Window y, x;
  const T* dy;
  const int32_t* at;
  __device__ float operator()(int64_t plane, int row, int col) const {
    const Span rows = positions_over(y, row, p.from_rows), cols = positions_over(x, col, p.from_cols);
    const int place = row * p.cols + col;
    float sum = 0;
    for (int64_t i = rows.begin; i < rows.end; ++i)
      for (int64_t j = cols.begin; j < cols.end; ++j) {
        const int64_t window = plane * p.from_size() + i * p.from_cols + j;
        if (at[window] == place) sum += static_cast<float>(dy[window]);
      }
    return sum;
  }
};

template <class T>
struct MeanForward {
  Planes p;
  Window y, x;
  bool count_padding;
  const T* from;
  __device__ float operator()(int64_t plane, int row, int col) const {
    const Span down = taps_inside(y, row, p.from_rows), along = taps_inside(x, col, p.from_cols);
    const int64_t top = row * y.stride - y.pad_begin, left = col * x.stride - x.pad_begin;
    float sum = 0;
    for (int64_t u = down.begin; u < down.end; ++u) {
      const T* values = from + plane * p.from_size() + (top + u * y.dilation) * p.from_cols + left;
      for (int64_t v = along.begin; v < along.end; ++v) sum += static_cast<float>(values[v * x.dilation]);
    }
    return sum / static_cast<float>(count_padding ? y.size * x.size : down.size() * along.size());
  }
};

template <class T>
struct MeanBackward {
  Planes p;
  Window y, x;
  bool count_padding;
  const T* dy;
  // Whether position i's window holds element `at` of its axis, also with dilation.
  __device__ static bool holds(const Window& w, int64_t i, int64_t at) {
    return (at + w.pad_begin - i * w.stride) % w.dilation == 0;
  }
  __device__ float operator()(int64_t plane, int row, int col) const {
    const Span rows = positions_over(y, row, p.from_rows), cols = positions_over(x, col, p.from_cols);
    float sum = 0;
    for (int64_t i = rows.begin; i < rows.end; ++i)
      for (int64_t j = cols.begin; j < cols.end; ++j) {
        if (!holds(y, i, row) || !holds(x, j, col)) continue;
        const auto value = static_cast<float>(dy[plane * p.from_size() + i * p.from_cols + j]);
        const int64_t count = count_padding
                                  ? y.size * x.size
                                  : taps_inside(y, i, p.rows).size() * taps_inside(x, j, p.cols).size();
        sum += value / static_cast<float>(count);
      }
    return sum;
  }
};

// A warp an output: lane l takes the elements l, l + 32, ... of its rectangle.
template <class T>
__global__ void __launch_bounds__(kThreads) adaptive_pool_kernel(Planes p, T* y, const T* x) {
  const int64_t out = int64_t{blockIdx.x} * (kThreads / 32) + warp_id();
  if (out >= p.size()) return;  // a whole warp; no barrier follows
  const int64_t plane = out / (p.rows * p.cols);
  const int row = out / p.cols % p.rows, col = out % p.cols;
  const Span down = adaptive_span(row, p.from_rows, p.rows), along = adaptive_span(col, p.from_cols, p.cols);
  const T* from = x + plane * p.from_size() + down.begin * p.from_cols + along.begin;
  const int width = along.size(), count = down.size() * width;
  float sum = 0;
  for (int i = lane_id(); i < count; i += 32)
    sum += static_cast<float>(from[i / width * p.from_cols + i % width]);
  sum = warp_sum(sum);
  if (lane_id() == 0) y[out] = T(sum / static_cast<float>(count));
}

template <class T>
struct AdaptiveBackward {
  Planes p;
  const T* dy;
  __device__ float operator()(int64_t plane, int row, int col) const {
    const Span rows = adaptive_outputs(row, p.rows, p.from_rows),
               cols = adaptive_outputs(col, p.cols, p.from_cols);
    float sum = 0;
    for (int64_t i = rows.begin; i < rows.end; ++i)
      for (int64_t j = cols.begin; j < cols.end; ++j) {
        const int64_t count =
            adaptive_span(i, p.rows, p.from_rows).size() * adaptive_span(j, p.cols, p.from_cols).size();
        sum +=
            static_cast<float>(dy[plane * p.from_size() + i * p.from_cols + j]) / static_cast<float>(count);
      }
    return sum;
  }
};

int side(int64_t n) {
  QFM_CHECK(n >= 0 && n < int64_t{1} << 31, "pool2d: a side of ", n, " is out of range");
  return static_cast<int>(n);
}
Planes planes_of(int64_t planes, int64_t rows, int64_t cols, int64_t from_rows, int64_t from_cols) {
  return {planes, side(rows), side(cols), side(from_rows), side(from_cols)};
}
Planes forward_planes(const PoolShape& s) {
  return planes_of(s.planes, s.out_height(), s.out_width(), s.height, s.width);
}
Planes backward_planes(const PoolShape& s) {
  return planes_of(s.planes, s.height, s.width, s.out_height(), s.out_width());
}

}  // namespace

template <class T>
void max_pool_forward(Cuda cuda, const PoolShape& shape, T* y, int32_t* at, const T* x) {
  const Planes p = forward_planes(shape);
  for_places(cuda, p, MaxForward<T>{p, shape.y, shape.x, at, x}, y);
}
template <class T>
void max_pool_backward(Cuda cuda, const PoolShape& shape, T* dx, const T* dy, const int32_t* at) {
  const Planes p = backward_planes(shape);
  for_places(cuda, p, MaxBackward<T>{p, shape.y, shape.x, dy, at}, dx);
}

template <class T>
void mean_pool_forward(Cuda cuda, const PoolShape& shape, T* y, const T* x) {
  const Planes p = forward_planes(shape);
  for_places(cuda, p, MeanForward<T>{p, shape.y, shape.x, shape.count_padding, x}, y);
}
template <class T>
void mean_pool_backward(Cuda cuda, const PoolShape& shape, T* dx, const T* dy) {
  const Planes p = backward_planes(shape);
  for_places(cuda, p, MeanBackward<T>{p, shape.y, shape.x, shape.count_padding, dy}, dx);
}

template <class T>
void adaptive_pool_forward(Cuda cuda, const AdaptivePoolShape& s, T* y, const T* x) {
  const Planes p = planes_of(s.planes, s.out_height, s.out_width, s.height, s.width);
  if (p.size() == 0) return;
  QFM_CHECK(p.from_size() < int64_t{1} << 31, "pool2d: a plane of ", p.from_size(), " elements is too large");
  launch<adaptive_pool_kernel<T>>(ceil_div(p.size(), kThreads / 32), kThreads, 0, cuda.stream, p, y, x);
}
template <class T>
void adaptive_pool_backward(Cuda cuda, const AdaptivePoolShape& s, T* dx, const T* dy) {
  const Planes p = planes_of(s.planes, s.height, s.width, s.out_height, s.out_width);
  for_places(cuda, p, AdaptiveBackward<T>{p, dy}, dx);
}

#define QFM_INSTANTIATE(T)                                                               \
  template void max_pool_forward(Cuda, const PoolShape&, T*, int32_t*, const T*);        \
  template void max_pool_backward(Cuda, const PoolShape&, T*, const T*, const int32_t*); \
  template void mean_pool_forward(Cuda, const PoolShape&, T*, const T*);                 \
  template void mean_pool_backward(Cuda, const PoolShape&, T*, const T*);                \
  template void adaptive_pool_forward(Cuda, const AdaptivePoolShape&, T*, const T*);     \
  template void adaptive_pool_backward(Cuda, const AdaptivePoolShape&, T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
