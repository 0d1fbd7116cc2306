// The end of every matrix product on CUDA: a tile of sums in shared memory becomes elements of C. Included by
// the products only; the order of the steps is the contract in gemm.h.
//
// A thread keeps to kEpiloguePack neighbouring columns, so that it reads the bias once, and walks down
// the rows of its tile, kRowsInFlight at a time: their elements of `residual` and `times_gelu_grad_of` are
// asked for together and the memory's latency is paid once. Neighbouring threads take neighbouring packs: a
// warp reads 512 contiguous bytes of shared memory and whole sectors of global memory.
#pragma once
#include "engine/cuda/warp_ops.h"
#include "kernels/gemm/gemm.h"
#include "kernels/pointwise/number.h"

namespace qfm {

constexpr int kEpiloguePack = 4;
constexpr int kRowsInFlight = 4;

// C (m, n) and what becomes of the sums on their way there. C is one of the two; blocks with blockIdx.y = y
// write the y-th of several.
template <class T>
struct GemmOutput {
  T* c;
  acc<T>* acc_c;
  GemmEpilogue<T> epilogue;
  int64_t m, n;
  bool in_packs;  // every row of every matrix can be reached in whole packs
};

template <class T, class Out>
GemmOutput<T> gemm_output(const GemmShape& s, Out* c, const GemmEpilogue<T>& e) {
  const auto aligned = [](const auto* p) {
    return reinterpret_cast<uintptr_t>(p) % (kEpiloguePack * sizeof(*p)) == 0;
  };
  const bool in_packs = s.n % kEpiloguePack == 0 && aligned(c) && aligned(e.bias) && aligned(e.pre_gelu) &&
                        aligned(e.times_gelu_grad_of) && aligned(e.residual);
  if constexpr (std::is_same_v<T, Out>) return {c, nullptr, e, s.m, s.n, in_packs};
  else return {nullptr, c, e, s.m, s.n, in_packs};
}

// The first `count` elements at p, zeros for the rest; where packs are whole, all or none.
template <bool in_packs, class T>
__device__ Pack<T, kEpiloguePack> read_pack(const T* p, int count) {
  Pack<T, kEpiloguePack> v{};
  if constexpr (in_packs) {
    if (count > 0) v = load<kEpiloguePack>(p);
  } else {
#pragma unroll
    for (int x = 0; x < kEpiloguePack; ++x)
      if (x < count) v.at[x] = p[x];
  }
  return v;
}

template <bool in_packs, class T>
__device__ void write_pack(T* p, const float (&v)[kEpiloguePack], int count) {
  const auto to = round_pack<T>(v);
  if constexpr (in_packs) {
    store<kEpiloguePack>(p, to);
  } else {
#pragma unroll
    for (int x = 0; x < kEpiloguePack; ++x)
      if (x < count) p[x] = to.at[x];
  }
}

// Rows `row`, row + step, ... of C, `rows` of them (at most kRows), columns [column, column + count).
template <bool in_packs, int kRows, class T>
__device__ void finish_rows(const GemmOutput<T>& to, float (&v)[kRows][kEpiloguePack], int64_t row, int step,
                            int rows, int64_t column, int count) {
  const GemmEpilogue<T>& e = to.epilogue;
  const auto at = [&](int r) { return (row + r * step) * to.n + column; };
  const auto each = [&](auto&& f) {
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int x = 0; x < kEpiloguePack; ++x) f(v[r][x], r, x);
  };
  // f(v, element of the matrix at the same place)
  const auto each_with = [&](const T* matrix, auto&& f) {
    Pack<T, kEpiloguePack> others[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) others[r] = read_pack<in_packs>(matrix + at(r), r < rows ? count : 0);
    each([&](float& s, int r, int x) { f(s, static_cast<float>(others[r].at[x])); });
  };
  const auto write = [&](auto* matrix) {
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (r < rows) write_pack<in_packs>(matrix + at(r), v[r], count);
  };

  if (e.bias) {
    const Pack<T, kEpiloguePack> bias = read_pack<in_packs>(e.bias + column, count);
    each([&](float& s, int, int x) { s += static_cast<float>(bias.at[x]); });
  }
  if (e.pre_gelu) write(e.pre_gelu);
  if (e.gelu) each([](float& s, int, int) { s = fn::gelu(s); });
  if (e.times_gelu_grad_of) each_with(e.times_gelu_grad_of, [](float& s, float of) { s *= fn::gelu_grad(of); });
  if (e.residual) each_with(e.residual, [](float& s, float r) { s += r; });
  const int64_t part = blockIdx.y * to.m * to.n;
  if (to.c) write(to.c + part);
  else write(to.acc_c + part);
}

// A tile of sums, its rows Tile::kSumStride apart (a multiple of 4), becomes C from (row, column) on; what
// lies outside C is dropped. By all threads of the block, after a barrier.
template <class Tile, bool in_packs, class T>
__device__ void finish_tile(const GemmOutput<T>& to, const float* tile, int64_t row, int64_t column) {
  constexpr int kPacks = Tile::kN / kEpiloguePack, kStep = Tile::kThreads / kPacks;
  static_assert(Tile::kThreads % kPacks == 0 && Tile::kSumStride % 4 == 0);
  const int first = threadIdx.x / kPacks, in_tile = threadIdx.x % kPacks * kEpiloguePack;
  column += in_tile;
  const int64_t rows_left = to.m - row, columns_left = to.n - column;
  if (columns_left <= 0) return;
  const int end = rows_left < Tile::kM ? static_cast<int>(rows_left) : Tile::kM;
  const int count = columns_left < kEpiloguePack ? static_cast<int>(columns_left) : kEpiloguePack;
  for (int i = first; i < end; i += kRowsInFlight * kStep) {
    float v[kRowsInFlight][kEpiloguePack];
    const int rows = (end - i + kStep - 1) / kStep;
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {
      const auto sums =
          load<kEpiloguePack>(tile + (r < rows ? i + r * kStep : i) * Tile::kSumStride + in_tile);
#pragma unroll
      for (int x = 0; x < kEpiloguePack; ++x) v[r][x] = sums.at[x];
    }
    finish_rows<in_packs>(to, v, row + i, kStep, rows, column, count);
  }
}

}  // namespace qfm
