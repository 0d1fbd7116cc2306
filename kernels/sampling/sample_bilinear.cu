// Bilinear sampling on CUDA; the contract is in sample_bilinear.h.
//
// Maths, for a place with its four elements at[k] and their weights:  y = sum over k of weight[k] x[at[k]],
//   dx[e] = sum over the places and k with at[k] = e of weight[k] dy,  dgrid = slope * sum over channels of dy * slope of x
//
// Cost, for n elements and m samples: (n + m) e bytes each way (8 x 64 x 56 x 56 at 56 x 56 places, bf16: 6.4 MB, floor
// 2 us at 3.35 TB/s), read in the order that the coordinates ask for. A place is found once for kChannels channels.
//
// dx would be a scatter. In place of it, every element gathers: one block an image lists the places of each cell (four
// elements that touch), and an element walks the lists of the four cells around it, for kChannels channels at once. No
// atomics: the order in a list is that of the places, last first. Lists take 4 ((H + 1)(W + 1) + places) bytes an image,
// and about 128 comparisons a place: threads find the places of their own cell among the 256 of a step, 4 cycles a place
// of one multiprocessor (3136 places: 7 us at 1.8 GHz; images at the same time).
#include "engine/base/error.h"
#include "kernels/common/cuda_loops.cuh"
#include "kernels/sampling/sample_bilinear.h"
#include "kernels/sampling/sample_point.h"

namespace qfm {
namespace {

constexpr int kChannels = 8;  // of a thread
constexpr int kSlices = kThreads / 32;

// Groups of channels of an image, and the one that a block has: blocks y go round over images x groups.
__device__ __host__ inline int64_t groups_of(const SampleShape& s) {
  return (s.channels + kChannels - 1) / kChannels;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sample_kernel(T* y, const T* x, const float* grid, SampleShape s) {
  const int64_t p = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (p >= s.places) return;
  const int plane = static_cast<int>(s.plane());
  for (int64_t i = blockIdx.y; i < s.batch * groups_of(s); i += gridDim.y) {
    const int64_t image = i / groups_of(s), first = i % groups_of(s) * kChannels;
    const SamplePoint<float> point(s, grid + (image * s.places + p) * 2);
    for (int64_t c = first; c < first + kChannels && c < s.channels; ++c) {
      const T* from = x + (image * s.channels + c) * plane;
      float sum = 0;
      for (int k = 0; k < 4; ++k)
        sum += point.weight(k) * (point.at[k] < plane ? static_cast<float>(from[point.at[k]]) : 0.0f);
      y[(image * s.channels + c) * s.places + p] = T(sum);
    }
  }
}

// 32 places a block: warp w adds up the channels w, w + kSlices, ..., then the warps' sums are added in order.
template <class T>
__global__ void __launch_bounds__(kThreads)
    sample_dgrid_kernel(float* dgrid, const T* dy, const T* x, const float* grid, SampleShape s) {
  SHARED(float, part, [2][kSlices][32]);
  const int64_t mine = int64_t{blockIdx.x} * 32 + lane_id(), p = mine < s.places ? mine : s.places - 1;
  const int plane = static_cast<int>(s.plane());
  for (int64_t image = blockIdx.y; image < s.batch; image += gridDim.y) {
    const SamplePoint<float> point(s, grid + (image * s.places + p) * 2);
    float across = 0, down = 0;
    for (int64_t c = warp_id(); c < s.channels; c += kSlices) {
      const T* from = x + (image * s.channels + c) * plane;
      const float d = static_cast<float>(dy[(image * s.channels + c) * s.places + p]);
      float v[4];
      for (int k = 0; k < 4; ++k) v[k] = point.at[k] < plane ? static_cast<float>(from[point.at[k]]) : 0.0f;
      across += d * ((1 - point.y) * (v[1] - v[0]) + point.y * (v[3] - v[2]));
      down += d * ((1 - point.x) * (v[2] - v[0]) + point.x * (v[3] - v[1]));
    }
    part[0][warp_id()][lane_id()] = across;
    part[1][warp_id()][lane_id()] = down;
    __syncthreads();
    if (warp_id() == 0 && mine < s.places) {
      float sums[2] = {0, 0};
      for (int axis = 0; axis < 2; ++axis)
        for (int w = 0; w < kSlices; ++w) sums[axis] += part[axis][w][lane_id()];
      dgrid[(image * s.places + p) * 2] = point.slope_x * sums[0];
      dgrid[(image * s.places + p) * 2 + 1] = point.slope_y * sums[1];
    }
    __syncthreads();
  }
}

// The places of each cell as a list: heads[cell] is the last of them, next[p] the one before p, -1 ends it. Cell (row,
// column) has the elements (row - 1, column - 1) to (row, column), also past the image's edges.
struct CellLists {
  int32_t *heads, *next;
  int64_t cells, places;
  int columns;
  __device__ int32_t* heads_of(int64_t image) const { return heads + image * cells; }
  __device__ int32_t* next_of(int64_t image) const { return next + image * places; }
};

__global__ void __launch_bounds__(kThreads)
    list_places_kernel(CellLists lists, const float* grid, SampleShape s) {
  SHARED(int, cells, [kThreads]);
  const int me = static_cast<int>(threadIdx.x);
  int32_t *heads = lists.heads_of(blockIdx.x), *next = lists.next_of(blockIdx.x);
  for (int64_t i = me; i < lists.cells; i += kThreads) heads[i] = -1;
  for (int64_t begin = 0; begin < s.places; begin += kThreads) {
    const int64_t p = begin + me;
    int cell = -1;
    if (p < s.places) {
      const float* coordinate = grid + (blockIdx.x * s.places + p) * 2;
      const SampleAxis<float> across(coordinate[0], s.width, s.padding, s.align_corners);
      const SampleAxis<float> down(coordinate[1], s.height, s.padding, s.align_corners);
      if (across.low >= -1 && down.low >= -1) cell = (down.low + 1) * lists.columns + across.low + 1;
    }
    cells[me] = cell;
    __syncthreads();
    int before = me - 1, after = me + 1;
    while (before >= 0 && cells[before] != cell) --before;
    while (after < kThreads && cells[after] != cell) ++after;
    if (cell >= 0) next[p] = before >= 0 ? static_cast<int32_t>(begin + before) : heads[cell];
    __syncthreads();  // heads are read before the last place of each cell takes over
    if (cell >= 0 && after == kThreads) heads[cell] = static_cast<int32_t>(p);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sample_dx_kernel(T* dx, const T* dy, const float* grid, CellLists lists, SampleShape s) {
  const int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (e >= s.plane()) return;
  const int row = static_cast<int>(e / s.width), column = static_cast<int>(e % s.width);
  for (int64_t i = blockIdx.y; i < s.batch * groups_of(s); i += gridDim.y) {
    const int64_t image = i / groups_of(s), first = image * s.channels + i % groups_of(s) * kChannels;
    const int64_t end = (image + 1) * s.channels;
    float sum[kChannels] = {};
    for (int k = 0; k < 4; ++k) {
      const int cell = (row + 1 - k / 2) * lists.columns + column + 1 - k % 2;
      for (int32_t p = lists.heads_of(image)[cell]; p >= 0; p = lists.next_of(image)[p]) {
        const float weight = SamplePoint<float>(s, grid + (image * s.places + p) * 2).weight(k);
        for (int c = 0; c < kChannels && first + c < end; ++c)
          sum[c] += weight * static_cast<float>(dy[(first + c) * s.places + p]);
      }
    }
    for (int c = 0; c < kChannels && first + c < end; ++c) dx[(first + c) * s.plane() + e] = T(sum[c]);
  }
}

void check_sizes(const SampleShape& s) {
  constexpr int64_t most = int64_t{1} << 30;
  QFM_CHECK(s.height < most && s.width < most && (s.height + 1) * (s.width + 1) < most && s.places < most,
            "sample_bilinear: ", s.height, " x ", s.width, " at ", s.places, " places is out of range");
}
dim3 grid_of(int64_t threads, const SampleShape& s) {
  return dim3(static_cast<unsigned>(ceil_div(threads, kThreads)), grid_size(s.batch * groups_of(s)));
}

}  // namespace

template <class T>
void sample_bilinear_forward(Cuda cuda, const SampleShape& s, T* y, const T* x, const acc<T>* grid) {
  check_sizes(s);
  if (s.batch * s.channels * s.places == 0) return;
  launch<sample_kernel<T>>(grid_of(s.places, s), kThreads, 0, cuda.stream, y, x, grid, s);
}

template <class T>
void sample_bilinear_dx(Cuda cuda, const SampleShape& s, T* dx, const T* dy, const acc<T>* grid) {
  check_sizes(s);
  if (s.batch * s.channels * s.plane() == 0) return;
  const int64_t cells = (s.height + 1) * (s.width + 1);
  const DeviceScratch scratch(s.batch * (cells + s.places) * sizeof(int32_t));
  auto* memory = scratch.as<int32_t>();
  const CellLists lists{memory, memory + s.batch * cells, cells, s.places, static_cast<int>(s.width + 1)};
  launch<list_places_kernel>(s.batch, kThreads, 0, cuda.stream, lists, grid, s);
  launch<sample_dx_kernel<T>>(grid_of(s.plane(), s), kThreads, 0, cuda.stream, dx, dy, grid, lists, s);
}

template <class T>
void sample_bilinear_dgrid(Cuda cuda, const SampleShape& s, acc<T>* dgrid, const T* dy, const T* x,
                           const acc<T>* grid) {
  check_sizes(s);
  if (s.batch * s.places == 0) return;
  const dim3 blocks(static_cast<unsigned>(ceil_div(s.places, 32)), grid_size(s.batch));
  launch<sample_dgrid_kernel<T>>(blocks, kThreads, 0, cuda.stream, dgrid, dy, x, grid, s);
}

#define QFM_INSTANTIATE(T)                                                                      \
  template void sample_bilinear_forward(Cuda, const SampleShape&, T*, const T*, const acc<T>*); \
  template void sample_bilinear_dx(Cuda, const SampleShape&, T*, const T*, const acc<T>*);      \
  template void sample_bilinear_dgrid(Cuda, const SampleShape&, acc<T>*, const T*, const T*, const acc<T>*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
