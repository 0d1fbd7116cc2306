// Copies by index on CUDA; the contract is in gather.h.
//
// Cost, for n elements of e bytes: 2 n e (a permutation that leaves the last dimension in place or a slice: 16 bytes a
// thread and access; one that moves it: scattered reads of e bytes, up to 32 / e times the traffic). scatter_add_rows reads
// dy once and the ids once for every id: count^2 words from the L1 and L2 caches (77 x 64 ids: 97 MB), no atomics.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/gather/gather.h"

namespace qfm {
namespace {

template <int V, class T>
__global__ void __launch_bounds__(kThreads) strided_copy_kernel(CopySpace s, int64_t rows, T* dst, const T* src) {
  const int last = s.dims - 1;
  const int64_t column = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * V;
  if (column >= s.size[last]) return;  // no barrier follows
  for (int64_t row = int64_t{blockIdx.y} * blockDim.y + threadIdx.y; row < rows; row += int64_t{gridDim.y} * blockDim.y) {
    int64_t rest = row, to = column * s.to[last], from = column * s.from[last];
    for (int d = last - 1; d >= 0; --d) {
      const int64_t i = rest % s.size[d];
      rest /= s.size[d];
      to += i * s.to[d], from += i * s.from[d];
    }
    store<V>(dst + to, load<V>(src + from));
  }
}

bool whole_packs(const CopySpace& s, int64_t pack) {
  const int last = s.dims - 1;
  if (s.to[last] != 1 || s.from[last] != 1) return false;
  for (int d = 0; d < last; ++d)
    if (s.to[d] % pack != 0 || s.from[d] % pack != 0) return false;
  return true;
}

template <int V, class T>
__global__ void __launch_bounds__(kThreads)
    gather_rows_kernel(T* y, const T* table, const int32_t* ids, int64_t count, int64_t cols) {
  const int64_t column = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * V;
  if (column >= cols) return;  // no barrier follows
  for (int64_t i = int64_t{blockIdx.y} * blockDim.y + threadIdx.y; i < count; i += int64_t{gridDim.y} * blockDim.y)
    store<V>(y + i * cols + column, load<V>(table + int64_t{ids[i]} * cols + column));
}

struct Zero {
  __device__ float operator()() const { return 0; }
};

// The block of an id that was not there before adds up all its rows.
template <class T>
__global__ void __launch_bounds__(kThreads)
    scatter_add_rows_kernel(float* dtable, const T* dy, const int32_t* ids, int64_t count, int64_t cols) {
  for (int64_t first = blockIdx.x; first < count; first += gridDim.x) {
    const int32_t id = ids[first];
    bool repeated = false;
    for (int64_t i = 0; i < first && !repeated; ++i) repeated = ids[i] == id;
    if (repeated) continue;  // the whole block; no barrier follows
    for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
      float sum = 0;
      for (int64_t i = first; i < count; ++i)
        if (ids[i] == id) sum += static_cast<float>(dy[i * cols + c]);
      dtable[int64_t{id} * cols + c] = sum;
    }
  }
}

}  // namespace

template <class T>
void strided_copy(Cuda cuda, const CopySpace& whole, T* dst, const T* src) {
  const CopySpace s = whole.merged();
  int64_t rows = 1;
  const int64_t columns = s.size[s.dims - 1];
  for (int d = 0; d + 1 < s.dims; ++d) rows *= s.size[d];
  if (rows == 0 || columns == 0) return;
  const auto run = [&]<int V>(Lanes<V>) {
    const dim3 block = matrix_block(ceil_div(columns, V));
    const dim3 grid(static_cast<unsigned>(ceil_div(ceil_div(columns, V), block.x)), grid_size(ceil_div(rows, block.y)));
    launch<strided_copy_kernel<V, T>>(grid, block, 0, cuda.stream, s, rows, dst, src);
  };
  if (whole_packs(s, kPack<T>) && in_packs<T>(columns, {dst, src})) run(Lanes<kPack<T>>{});
  else run(Lanes<1>{});
}

template <class T>
void gather_rows(Cuda cuda, T* y, const T* table, const int32_t* ids, int64_t count, int64_t cols) {
  if (count == 0 || cols == 0) return;
  with_lanes<T>(cols, {y, table}, [&]<int V>(Lanes<V>) {
    const dim3 block = matrix_block(ceil_div(cols, V));
    const dim3 grid(static_cast<unsigned>(ceil_div(ceil_div(cols, V), block.x)), grid_size(ceil_div(count, block.y)));
    launch<gather_rows_kernel<V, T>>(grid, block, 0, cuda.stream, y, table, ids, count, cols);
  });
}

template <class T>
void scatter_add_rows(Cuda cuda, acc<T>* dtable, const T* dy, const int32_t* ids, int64_t count, int64_t rows,
                      int64_t cols) {
  if (rows == 0 || cols == 0) return;
  map_elements(cuda, Zero{}, rows * cols, dtable);
  if (count == 0) return;
  launch<scatter_add_rows_kernel<T>>(std::min<int64_t>(count, 65535), kThreads, 0, cuda.stream, dtable, dy, ids, count,
                                     cols);
}

#define QFM_INSTANTIATE(T)                                                            \
  template void strided_copy(Cuda, const CopySpace&, T*, const T*);                   \
  template void gather_rows(Cuda, T*, const T*, const int32_t*, int64_t, int64_t);    \
  template void scatter_add_rows(Cuda, acc<T>*, const T*, const int32_t*, int64_t, int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
