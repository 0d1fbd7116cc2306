// Matrix product on CUDA; the contract is in gemm.h. This file chooses the tile; how the work is cut is in
// gemm_tiling.cuh, how operands reach shared memory in gemm_pipeline.cuh, the kernels in gemm_mma.cuh (BF16,
// tensor cores) and gemm_f32.cuh, their epilogue in gemm_epilogue.cuh.
//
// Maths: C[i,j] = epilogue(sum over p of A[i,p] B[p,j]), each sum one chain along p. Only a weight gradient,
// whose p runs over all rows of the batch, is cut into parts of p that are added in order afterwards; its
// bias gradient, the row sums of A, comes out of the same pass.
//
// What stands around a GELU makes no pass of its own: fc1's epilogue applies it, that of fc2's dgrad
// multiplies by GELU' of the stored pre-GELU, and the gradient of fc1's bias is sum_a of fc1's wgrad.
//
// Cost: 2 m n k FLOPs; reads A and B, writes C, and what the epilogue reads and writes, m n elements each.
// ViT-S at M = 256 x 197 rows in BF16, floor = the longer of memory at 3.0 TB/s and products at 800 TFLOP/s
// (an H100's measured copy and matrix rates); tiles of 128 x 128, of which 132 SMs hold 264 at a time:
//                           m      n     k   GFLOP   MB   floor us   tiles   waves   last wave's loss
//   qkv                 50432   1152   384    44.6  156     56        3546    13.4    4%
//   proj + residual     50432    384   384    14.9  117     39        1182     4.5   10%
//   fc1 + GELU          50432   1536   384    59.5  195     74        4728    17.9    1%
//     and pre-GELU out                        59.5  350    117
//   fc2 + residual      50432    384  1536    59.5  234     78        1182     4.5   10%
//   fc2 dgrad, dGELU    50432   1536   384    59.5  350    117        4728    17.9    1%
//   wgrad qkv            1152    384 50432    44.6  157     56    27 x 9 parts  0.92
//   wgrad proj            384    384 50432    14.9   78     26     9 x 29       0.99
//   wgrad fc1, fc2       1536    384 50432    59.5  196     74    36 x 7        0.95
// The parts of a wgrad cost 34 MB more for proj, 33 for fc, 32 for qkv, most of it in the 50 MB of L2. In a
// row of tiles each block reads A anew, from L2: n / 128 times. mma.sync cannot reach the matrix rate above,
// which on an H100 takes wgmma. None of this has been timed on a GPU yet.
//
// Registers, shared memory and blocks an SM of each tile: code_budget.json. C leaves in packs of 4 elements
// where all rows can be reached so; another n takes the small tile that moves element by element.
#include "engine/base/error.h"
#include "engine/cuda/launch.h"
#include "engine/memory/memory.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_cublas.h"
#include "kernels/gemm/gemm_f32.cuh"
#include "kernels/gemm/gemm_mma.cuh"
#include "kernels/gemm/gemm_parts.cuh"

namespace qfm {
namespace {

template <class T>
struct Tiles;
template <>
struct Tiles<float> {
  using Large = F32Tile<128, 64, 8, 3>;
  using Small = F32Tile<32, 32, 4, 8>;
};
template <>
struct Tiles<bf16> {
  using Large = MmaTile<128, 128, 64, 64, 2>;
  using Small = MmaTile<64, 64, 32, 32, 4>;
};

// A product with its operands in the order of C's sides.
template <class T>
struct Product {
  GemmOperand<T> a, b;
  int64_t k;
};

template <class Tile, bool a_along_k, bool b_along_k, bool in_packs>
void start(Cuda cuda, const GemmTiling& cut, const Product<bf16>& p, const GemmOutput<bf16>& to,
           float* sum_a) {
  launch<gemm_mma_kernel<Tile, a_along_k, b_along_k, in_packs>>(
      dim3(cut.tiles_m * cut.tiles_n, cut.parts), Tile::kThreads, kMmaSharedBytes<Tile, a_along_k, b_along_k>,
      cuda.stream, to, p.a, p.b, p.k, cut, sum_a);
}
template <class Tile, bool a_along_k, bool b_along_k, bool in_packs>
void start(Cuda cuda, const GemmTiling& cut, const Product<float>& p, const GemmOutput<float>& to,
           float* sum_a) {
  launch<gemm_f32_kernel<Tile, a_along_k, b_along_k, in_packs>>(dim3(cut.tiles_m * cut.tiles_n, cut.parts),
                                                                Tile::kThreads, kF32SharedBytes<Tile>,
                                                                cuda.stream, to, p.a, p.b, p.k, cut, sum_a);
}

// The layouts of a Linear layer.
template <class Tile, class T>
void start_in_packs(Cuda cuda, const GemmTiling& cut, const Product<T>& p, const GemmOutput<T>& to,
                    float* sum_a) {
  if (!p.a.along_k) start<Tile, false, false, true>(cuda, cut, p, to, sum_a);
  else if (p.b.along_k) start<Tile, true, true, true>(cuda, cut, p, to, sum_a);
  else start<Tile, true, false, true>(cuda, cut, p, to, sum_a);
}

// Runs start(output, sum_a) for all parts of k, then adds them up.
template <class T, class Out, class Start>
void run_parts(Cuda cuda, const GemmShape& s, const GemmTiling& cut, Out* c, const GemmEpilogue<T>& e,
               Start&& start) {
  if (cut.parts == 1) return start(gemm_output(s, c, e), e.sum_a);
  const int64_t size = s.m * s.n;
  const DeviceScratch scratch(sizeof(float) * cut.parts * (size + s.m));
  float *parts = scratch.as<float>(), *parts_of_a = parts + cut.parts * size;
  start(gemm_output(s, parts, GemmEpilogue<T>{}), e.sum_a ? parts_of_a : nullptr);
  gemm_add_parts(cuda, gemm_output(s, c, e), parts, e.sum_a, parts_of_a, cut.parts);
}

}  // namespace

// Large tiles where they give every SM a block: they read A and B half as often as small ones. What a Linear
// layer never asks for (both transposed, rows of operands or of C that are not whole packs) takes the small
// tile and moves element by element.
template <class T, class Out>
void gemm_own(Cuda cuda, GemmShape s, Out* c, const T* a, const T* b, const GemmEpilogue<T>& e) {
  constexpr int64_t kMost = int64_t{1} << 31;
  QFM_CHECK(s.m >= 0 && s.n >= 0 && s.k >= 0 && s.m < kMost && s.n < kMost && s.k < kMost, "gemm: m ", s.m,
            ", n ", s.n, ", k ", s.k);
  QFM_CHECK(!e.sum_a || s.trans_a, "gemm: sum_a is for a transposed A only");
  using Large = typename Tiles<T>::Large;
  using Small = typename Tiles<T>::Small;
  const GemmTiling large = gemm_tiling<Large>(s, e.sum_a), small = gemm_tiling<Small>(s, e.sum_a);
  if (small.blocks() == 0) return;
  const Product<T> p{
      {a, s.m, s.trans_a ? s.m : s.k, !s.trans_a}, {b, s.n, s.trans_b ? s.k : s.n, s.trans_b}, s.k};
  const bool packs = in_packs<T>(p.a.ld, {a}) && in_packs<T>(p.b.ld, {b}) && gemm_output(s, c, e).in_packs &&
                     !(s.trans_a && s.trans_b);
  if (packs && large.blocks() >= kGemmSms)
    run_parts(cuda, s, large, c, e, [&](const GemmOutput<T>& to, float* sum_a) {
      start_in_packs<Large>(cuda, large, p, to, sum_a);
    });
  else
    run_parts(cuda, s, small, c, e, [&](const GemmOutput<T>& to, float* sum_a) {
      if (packs) start_in_packs<Small>(cuda, small, p, to, sum_a);
      else start<Small, true, true, false>(cuda, small, p, to, sum_a);
    });
}

template <class T, class Out>
void gemm(Cuda cuda, GemmShape s, Out* c, const T* a, const T* b, const GemmEpilogue<T>& e) {
  if (!cublas::gemm(cuda, s, c, a, b, e)) gemm_own(cuda, s, c, a, b, e);
}

#define QFM_INSTANTIATE(T, Out)                                                              \
  template void gemm_own(Cuda, GemmShape, Out*, const T*, const T*, const GemmEpilogue<T>&); \
  template void gemm(Cuda, GemmShape, Out*, const T*, const T*, const GemmEpilogue<T>&);
QFM_INSTANTIATE(float, float)
QFM_INSTANTIATE(bf16, bf16)
QFM_INSTANTIATE(bf16, float)
#undef QFM_INSTANTIATE

}  // namespace qfm
