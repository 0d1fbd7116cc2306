// A map on CUDA; the contract is in map.h, the functions are in functions.h.
//
// Cost, for n elements of e bytes: every input that is not repeated is read and y written once, (inputs + 1) n e bytes
// (n = 256 x 197 x 384, bf16, two inputs: 116 MB, floor 35 us at 3.35 TB/s), 1 to 25 FLOPs an element, far below the
// memory's time. So what counts is 16 bytes a thread and access; what is repeated stays in a register or the L1 cache.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/pointwise/map.h"

namespace qfm {
namespace {

// Where the inputs of a row begin. Rows are few enough for 32 bits in all but absurd spaces: a division is then cheap.
template <class Index, int inputs>
__device__ void add_row(const MapSpace<inputs>& space, Index row, int64_t (&begin)[inputs]) {
  for (int d = space.dims - 2; d >= 0; --d) {
    const Index size = static_cast<Index>(space.size[d]), i = row % size;
    row /= size;
    for (int k = 0; k < inputs; ++k) begin[k] += static_cast<int64_t>(i) * space.step[k][d];
  }
}

// A thread has V neighbouring columns, of a row or of several.
template <int V, class F, class T, int inputs>
__global__ void __launch_bounds__(kThreads) map_kernel(F f, MapSpace<inputs> space, T* y, MapInputs<T, inputs> x) {
  const int64_t columns = space.columns(), rows = space.rows();
  const int64_t column = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * V;
  if (column >= columns) return;  // no barrier follows
  for (int64_t row = int64_t{blockIdx.y} * blockDim.y + threadIdx.y; row < rows; row += int64_t{gridDim.y} * blockDim.y) {
    int64_t begin[inputs] = {};
    if (rows <= 0x7fffffff) add_row(space, static_cast<uint32_t>(row), begin);
    else add_row(space, row, begin);
    float in[inputs][V];
    for (int k = 0; k < inputs; ++k) {
      const T* from = x.at[k] + begin[k];
      if (space.step[k][space.dims - 1] == 0) {
        for (float& value : in[k]) value = static_cast<float>(*from);
        continue;
      }
      const Pack<T, V> pack = load<V>(from + column);
      for (int i = 0; i < V; ++i) in[k][i] = static_cast<float>(pack.at[i]);
    }
    float ys[V];
    for (int i = 0; i < V; ++i)
      if constexpr (inputs == 1) ys[i] = f(in[0][i]);
      else ys[i] = f(in[0][i], in[1][i]);
    store<V>(y + row * columns + column, round_pack<T>(ys));
  }
}

// Whether rows of every input begin where packs do.
template <class T, int inputs>
bool steps_by_packs(const MapSpace<inputs>& space, const MapInputs<T, inputs>& x) {
  for (int k = 0; k < inputs; ++k) {
    if (space.step[k][space.dims - 1] == 0) continue;
    if (!in_packs_of<kPack<T>>(x.at[k])) return false;
    for (int d = 0; d + 1 < space.dims; ++d)
      if (space.step[k][d] % kPack<T> != 0) return false;
  }
  return true;
}

}  // namespace

template <int inputs, class F, class T>
void map(Cuda cuda, const F& f, const MapSpace<inputs>& space, T* y, MapInputs<T, inputs> x) {
  const int64_t rows = space.rows(), columns = space.columns();
  if (rows == 0 || columns == 0) return;
  const auto run = [&]<int V>(Lanes<V>) {
    const dim3 block = matrix_block(ceil_div(columns, V));
    const dim3 grid(static_cast<unsigned>(ceil_div(ceil_div(columns, V), block.x)), grid_size(ceil_div(rows, block.y)));
    launch<map_kernel<V, F, T, inputs>>(grid, block, 0, cuda.stream, f, space, y, x);
  };
  if (in_packs<T>(columns, {y}) && steps_by_packs(space, x)) run(Lanes<kPack<T>>{});
  else run(Lanes<1>{});
}

namespace {

struct Same {
  __device__ float operator()(float x) const { return x; }
};

}  // namespace

template <class To, class From>
void cast(Cuda cuda, To* dst, const From* src, int64_t n) {
  map_elements(cuda, Same{}, n, dst, src);
}

#define QFM_MAP_TYPE(F, inputs, T) \
  template void map(Cuda, const fn::F&, const MapSpace<inputs>&, T*, MapInputs<T, inputs>);
#define QFM_MAP_ONE(F, inputs) QFM_MAP_TYPE(F, inputs, float) QFM_MAP_TYPE(F, inputs, bf16)
QFM_MAP_FUNCTIONS
#undef QFM_MAP_ONE
#undef QFM_MAP_TYPE

#define QFM_INSTANTIATE(T)                             \
  template void cast(Cuda, T*, const float*, int64_t); \
  template void cast(Cuda, T*, const bf16*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
