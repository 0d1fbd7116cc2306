// Matrix product on CUDA; the contract is in gemm.h.
//
// A block computes a tile of C: it walks along k, kDepth at a time, with those parts of A and B in shared
// memory, and each thread holds a square of sums in registers.
#include "engine/base/error.h"
#include "engine/base/launch.h"
#include "kernels/gemm.h"
#include "kernels/gemm_epilogue.cuh"

namespace qfm {
namespace {

constexpr int kTile = 64, kDepth = 16, kSide = 4, kThreads = 256, kStride = kTile + 8;

// Element (i, p) of an operand whose rows run along C's side: A, or B transposed.
template <class T>
struct Operand {
  const T* data;
  int64_t rows, depth;
  bool transposed;  // stored as (depth, rows)
  __device__ float at(int64_t i, int64_t p) const {
    if (i >= rows || p >= depth) return 0;
    return static_cast<float>(data[transposed ? p * rows + i : i * depth + p]);
  }
};

template <class T>
__device__ void load_tile(float (&tile)[kDepth][kTile + 1], const Operand<T>& from, int64_t row,
                          int64_t depth) {
  for (int e = threadIdx.x; e < kTile * kDepth; e += kThreads) {
    const int i = from.transposed ? e % kTile : e / kDepth, p = from.transposed ? e / kTile : e % kDepth;
    tile[p][i] = from.at(row + i, depth + p);
  }
}

template <class T, class Out>
__global__ void __launch_bounds__(kThreads)
    gemm_kernel(GemmOutput<T, Out> to, Operand<T> a, Operand<T> b, float* sum_a, int tiles_n) {
  SHARED(float, as, [kDepth][kTile + 1]);
  SHARED(float, bs, [kDepth][kTile + 1]);
  SHARED(float, sums, [kTile * kStride]);
  const int64_t row = int64_t{blockIdx.x} / tiles_n * kTile, column = int64_t{blockIdx.x} % tiles_n * kTile;
  const int x = threadIdx.x % (kTile / kSide), y = threadIdx.x / (kTile / kSide);
  const bool adds_a = sum_a && column == 0 && threadIdx.x < kTile;
  float sum[kSide][kSide] = {}, of_a = 0;
  for (int64_t depth = 0; depth < a.depth; depth += kDepth) {
    load_tile(as, a, row, depth);
    load_tile(bs, b, column, depth);
    __syncthreads();
    for (int p = 0; p < kDepth; ++p) {
      for (int i = 0; i < kSide; ++i)
        for (int j = 0; j < kSide; ++j)
          sum[i][j] = fmaf(as[p][y * kSide + i], bs[p][x * kSide + j], sum[i][j]);
      if (adds_a) of_a += as[p][threadIdx.x];
    }
    __syncthreads();
  }
  if (adds_a && row + threadIdx.x < to.m) sum_a[row + threadIdx.x] = of_a;
  for (int i = 0; i < kSide; ++i)
    for (int j = 0; j < kSide; ++j) sums[(y * kSide + i) * kStride + x * kSide + j] = sum[i][j];
  __syncthreads();
  finish_tile<kThreads, kTile, kTile, kStride>(to, sums, row, column);
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

template <class T, class Out>
void gemm_own(Cuda cuda, GemmShape s, Out* c, const T* a, const T* b, const GemmEpilogue<T>& e) {
  QFM_CHECK(s.m >= 0 && s.n >= 0 && s.k >= 0, "gemm: m ", s.m, ", n ", s.n, ", k ", s.k);
  QFM_CHECK(!e.sum_a || s.trans_a, "gemm: sum_a is for a transposed A only");
  // Sums of A are wanted even where C has no columns.
  const int64_t tiles_m = ceil_div(s.m, kTile),
                tiles_n = e.sum_a ? ceil_div(s.n + 1, kTile) : ceil_div(s.n, kTile);
  if (tiles_m * tiles_n == 0) return;
  launch<gemm_kernel<T, Out>>(tiles_m * tiles_n, kThreads, 0, cuda.stream, gemm_output<T>(s, c, e),
                              Operand<T>{a, s.m, s.k, s.trans_a}, Operand<T>{b, s.n, s.k, !s.trans_b},
                              e.sum_a, static_cast<int>(tiles_n));
}

template <class T, class Out>
void gemm(Cuda cuda, GemmShape s, Out* c, const T* a, const T* b, const GemmEpilogue<T>& e) {
  gemm_own(cuda, s, c, a, b, e);
}

#define QFM_INSTANTIATE(T, Out)                                                              \
  template void gemm_own(Cuda, GemmShape, Out*, const T*, const T*, const GemmEpilogue<T>&); \
  template void gemm(Cuda, GemmShape, Out*, const T*, const T*, const GemmEpilogue<T>&);
QFM_INSTANTIATE(float, float)
QFM_INSTANTIATE(bf16, bf16)
QFM_INSTANTIATE(bf16, float)
#undef QFM_INSTANTIATE

}  // namespace qfm
