// Bilinear resize on CUDA; the contract is in resize_bilinear.h.
//
// Maths:  y[i, j] = mean of four elements of x around the position of (i, j), by the weights of resize_axis.h.
// Backward, for an element (r, c): dx = sum over the outputs that see it of dy, times the same weights. Those outputs are
// a rectangle, and along an axis output i at position p weighs element e with 1 - |p - e|: no table, no division.
//
// Cost, for n elements in and m out: (n + m) e bytes (8 x 64 x 56 x 56 to 112 x 112, bf16: 16 MB, floor 5 us at
// 3.35 TB/s). An output reads four elements and an element four outputs, or a few more where it shrinks: neighbouring
// threads share them, so that memory is read about once. Where things lie is found once for kPlanes planes: a division
// of 64 bits costs more than the mean of an element.
#include "engine/base/error.h"
#include "kernels/common/cuda_loops.cuh"
#include "kernels/sampling/resize_axis.h"
#include "kernels/sampling/resize_bilinear.h"

namespace qfm {
namespace {

constexpr int kPlanes = 8;  // of a thread, or more where the grid ends

// V outputs of a row, in each of the block's planes.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    resize_kernel(T* y, const T* x, ResizeAxis down, ResizeAxis across, int64_t planes) {
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * V;
  if (at >= down.out * across.out) return;
  const ResizeTap<float> row = down.at<float>(at / across.out);
  const int64_t below = row.low + 1 < down.in ? across.in : 0;
  int left[V], right[V];
  float weight[V];
  for (int k = 0; k < V; ++k) {
    const ResizeTap<float> column = across.at<float>(at % across.out + k);
    left[k] = static_cast<int>(column.low);
    right[k] = left[k] + (left[k] + 1 < across.in);
    weight[k] = column.weight;
  }
  for (int64_t plane = blockIdx.y; plane < planes; plane += gridDim.y) {
    const T* upper = x + (plane * down.in + row.low) * across.in;
    const T* lower = upper + below;
    float out[V];
    for (int k = 0; k < V; ++k) {
      const float first = (1 - weight[k]) * static_cast<float>(upper[left[k]]) +
                          weight[k] * static_cast<float>(upper[right[k]]);
      const float second = (1 - weight[k]) * static_cast<float>(lower[left[k]]) +
                           weight[k] * static_cast<float>(lower[right[k]]);
      out[k] = (1 - row.weight) * first + row.weight * second;
    }
    store<V>(y + plane * down.out * across.out + at, round_pack<T>(out));
  }
}

// The outputs along an axis that see one element, and how far from it they lie, in elements.
struct Viewers {
  int64_t begin, end;
  float first, step, least, most;
  __device__ Viewers(const ResizeAxis& axis, int64_t element)
      : begin(axis.first(element - 1)),
        end(axis.first(element + 1)),
        first(static_cast<float>(begin * axis.step + axis.offset - element * axis.whole) /
              static_cast<float>(axis.whole)),
        step(static_cast<float>(axis.step) / static_cast<float>(axis.whole)),
        least(-static_cast<float>(element)),
        most(static_cast<float>(axis.in - 1 - element)) {}
  __device__ float weight(int64_t i) const {
    const float distance = first + static_cast<float>(static_cast<int>(i - begin)) * step;
    return 1 - fabsf(fminf(fmaxf(distance, least), most));
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    resize_backward_kernel(T* dx, const T* dy, ResizeAxis down, ResizeAxis across, int64_t planes) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= down.in * across.in) return;
  const Viewers rows(down, at / across.in), columns(across, at % across.in);
  for (int64_t plane = blockIdx.y; plane < planes; plane += gridDim.y) {
    const T* row = dy + (plane * down.out + rows.begin) * across.out;
    float sum = 0;
    for (int64_t i = rows.begin; i < rows.end; ++i, row += across.out) {
      float part = 0;
      for (int64_t j = columns.begin; j < columns.end; ++j)
        part += columns.weight(j) * static_cast<float>(row[j]);
      sum += rows.weight(i) * part;
    }
    dx[plane * down.in * across.in + at] = T(sum);
  }
}

dim3 grid_of(int64_t threads, int64_t planes) {
  return dim3(static_cast<unsigned>(ceil_div(threads, kThreads)), grid_size(ceil_div(planes, kPlanes)));
}
void check_sides(const ResizeShape& s) {
  constexpr int64_t most = int64_t{1} << 30;
  QFM_CHECK(s.height < most && s.width < most && s.out_height < most && s.out_width < most,
            "resize_bilinear: ", s.height, " x ", s.width, " to ", s.out_height, " x ", s.out_width,
            " is out of range");
}

}  // namespace

template <class T>
void resize_bilinear_forward(Cuda cuda, const ResizeShape& s, T* y, const T* x) {
  check_sides(s);
  if (s.planes * s.out_height * s.out_width == 0) return;
  const ResizeAxis down(s.height, s.out_height, s.align_corners),
      across(s.width, s.out_width, s.align_corners);
  with_lanes<T>(s.out_width, {y}, [&]<int V>(Lanes<V>) {
    launch<resize_kernel<T, V>>(grid_of(s.out_height * s.out_width / V, s.planes), kThreads, 0, cuda.stream,
                                y, x, down, across, s.planes);
  });
}

template <class T>
void resize_bilinear_backward(Cuda cuda, const ResizeShape& s, T* dx, const T* dy) {
  check_sides(s);
  if (s.planes * s.height * s.width == 0) return;
  const ResizeAxis down(s.height, s.out_height, s.align_corners),
      across(s.width, s.out_width, s.align_corners);
  launch<resize_backward_kernel<T>>(grid_of(s.height * s.width, s.planes), kThreads, 0, cuda.stream, dx, dy,
                                    down, across, s.planes);
}

#define QFM_INSTANTIATE(T)                                                       \
  template void resize_bilinear_forward(Cuda, const ResizeShape&, T*, const T*); \
  template void resize_bilinear_backward(Cuda, const ResizeShape&, T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
