// The matrix product of a linear layer, y (m, n) = x (m, k) w (n, k)^T, from three loops to
// the shipped kernel.
//
// 2 m n k FLOPs; x, w and y once through memory are 2 (m k + n k + m n) bytes. For fc1 of ViT-S at 28 images
// (m = 5516, n = 1536, k = 384) that is 6.5 GFLOP and 22 MB: at an H100's 800 TFLOP/s and 3.0 TB/s 8 us and 7
// us. An SM does 2048 multiply-adds a cycle on tensor cores, 128 without, and gets about 13 bytes a cycle
// from memory. So every step asks: how many multiply-adds does an element pay for once it has been fetched,
// and from how near?
#include "engine/cuda/launch.h"
#include "engine/cuda/warp_ops.h"
#include "kernels/gemm/gemm.h"
#include "kernels/study/study.h"

namespace qfm {
namespace {

struct Sizes {
  int64_t m, n, k;
};

// Where a block's tile begins; blocks count along a row of y first.
struct Corner {
  int64_t row, column;
};
template <int rows, int columns>
__device__ Corner corner(const Sizes& s) {
  const int64_t across = (s.n + columns - 1) / columns;
  return {blockIdx.x / across * rows, blockIdx.x % across * columns};
}
template <int rows, int columns>
int64_t tiles(const Sizes& s) {
  return ((s.m + rows - 1) / rows) * ((s.n + columns - 1) / columns);
}

// Element (i, p) of x (rows, k), zero outside.
__device__ inline float at(const bf16* x, int64_t rows, int64_t k, int64_t i, int64_t p) {
  return i < rows && p < k ? static_cast<float>(x[i * k + p]) : 0.0f;
}

// 1. Naive. A thread computes one element of y, neighbours in a warp lie in neighbouring rows. Per
// multiply-add a thread reads 4 bytes, and the 32 threads of a warp read x from 32 rows, k elements apart: 32
// sectors of 32 bytes are moved for 2 bytes each, and y is written the same way. The L1 cache keeps some of
// those sectors for the next steps of k, which is all that saves this kernel.
__global__ void naive_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  const Corner c = corner<32, 8>(s);
  const int64_t i = c.row + threadIdx.x, j = c.column + threadIdx.y;
  if (i >= s.m || j >= s.n) return;
  float sum = 0;
  for (int64_t p = 0; p < s.k; ++p)
    sum = fmaf(static_cast<float>(x[i * s.k + p]), static_cast<float>(w[j * s.k + p]), sum);
  y[i * s.n + j] = bf16(sum);
}

// 2. Coalesced. In both operands k runs along the rows, so a whole warp takes one element of y and walks
// along k side by side: 32 neighbours read 64 contiguous bytes of x and of w, every byte that is moved is
// used, and the 32 partial sums are added at the end. But an element still pays for one multiply-add only.
__global__ void coalesced_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  const int64_t element = int64_t{blockIdx.x} * 8 + warp_id(), i = element / s.n, j = element % s.n;
  if (i >= s.m) return;  // a whole warp
  float sum = 0;
  for (int64_t p = lane_id(); p < s.k; p += 32)
    sum = fmaf(static_cast<float>(x[i * s.k + p]), static_cast<float>(w[j * s.k + p]), sum);
  sum = warp_sum(sum);
  if (lane_id() == 0) y[i * s.n + j] = bf16(sum);
}

// 3. Shared tiles. A block computes 32 x 32 elements of y and brings 32 x 32 pieces of x and w into
// shared memory first, so an element that came from far is used 32 times: 1 byte from memory for 8
// multiply-adds. The rows of the pieces are 33 floats long: threads that read down a column of w's piece
// meet 32 different banks.
__global__ void __launch_bounds__(1024) shared_tiles_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  SHARED(float, xs, [32][33]);
  SHARED(float, ws, [32][33]);
  const Corner c = corner<32, 32>(s);
  const int column = threadIdx.x % 32, row = threadIdx.x / 32;
  float sum = 0;
  for (int64_t p = 0; p < s.k; p += 32) {
    xs[row][column] = at(x, s.m, s.k, c.row + row, p + column);
    ws[row][column] = at(w, s.n, s.k, c.column + row, p + column);
    __syncthreads();
    for (int q = 0; q < 32; ++q) sum = fmaf(xs[row][q], ws[column][q], sum);
    __syncthreads();
  }
  if (c.row + row < s.m && c.column + column < s.n) y[(c.row + row) * s.n + c.column + column] = bf16(sum);
}

// 4. Register tiles. Above, each multiply-add reads two floats from shared memory, which gives an SM 32 a
// cycle: 16 multiply-adds of the 128 that it could do. Here a thread computes 4 x 4 elements: for every p it
// reads 4 + 4 floats and makes 16 multiply-adds. The tile grows to 64 x 64, so that memory is read half as
// often, too. The pieces lie in shared memory with k across the rows, as the threads read them; rows are one
// float longer, so that the transposing stores meet fewer of each other's banks.
constexpr int kSide = 64, kDepth = 16, kOwn = 4, kThreads = 256;

__device__ inline void write_own(bf16* y, const Sizes& s, const Corner& c, int row, int column,
                                 const float (&sum)[kOwn][kOwn]) {
  for (int i = 0; i < kOwn; ++i)
    for (int j = 0; j < kOwn; ++j)
      if (c.row + row + i < s.m && c.column + column + j < s.n)
        y[(c.row + row + i) * s.n + c.column + column + j] = bf16(sum[i][j]);
}

__global__ void __launch_bounds__(kThreads)
    register_tiles_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  SHARED(float, xs, [kDepth][kSide + 1]);
  SHARED(float, ws, [kDepth][kSide + 1]);
  const Corner c = corner<kSide, kSide>(s);
  const int column = threadIdx.x % (kSide / kOwn) * kOwn, row = threadIdx.x / (kSide / kOwn) * kOwn;
  float sum[kOwn][kOwn] = {};
  for (int64_t p = 0; p < s.k; p += kDepth) {
    for (int e = threadIdx.x; e < kSide * kDepth; e += kThreads) {
      const int i = e / kDepth, q = e % kDepth;
      xs[q][i] = at(x, s.m, s.k, c.row + i, p + q);
      ws[q][i] = at(w, s.n, s.k, c.column + i, p + q);
    }
    __syncthreads();
    for (int q = 0; q < kDepth; ++q) {
      float a[kOwn], b[kOwn];
      for (int i = 0; i < kOwn; ++i) a[i] = xs[q][row + i], b[i] = ws[q][column + i];
      for (int i = 0; i < kOwn; ++i)
        for (int j = 0; j < kOwn; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
    }
    __syncthreads();
  }
  write_own(y, s, c, row, column, sum);
}

// 5. Vectorised. The same tile with fewer instructions: 16 bytes (8 elements along k) from memory by one
// load, 4 floats from shared memory by one load, so that 2 loads feed 16 multiply-adds. For that the rows
// must be aligned to 16 bytes: they are 4 floats longer, not 1. Sizes that are not whole packs read element
// by element.
using Eight = Pack<bf16, 8>;

template <bool in_packs>
__device__ Eight pack_at(const bf16* x, int64_t rows, int64_t k, int64_t i, int64_t p) {
  if (in_packs && i < rows && p < k) return load<8>(x + i * k + p);
  Eight v;
  for (int e = 0; e < 8; ++e) v.at[e] = bf16(in_packs ? 0.0f : at(x, rows, k, i, p + e));
  return v;
}

template <bool in_packs>
__global__ void __launch_bounds__(kThreads)
    vectorised_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  SHARED(float, xs, [kDepth][kSide + 4]);
  SHARED(float, ws, [kDepth][kSide + 4]);
  const Corner c = corner<kSide, kSide>(s);
  const int column = threadIdx.x % (kSide / kOwn) * kOwn, row = threadIdx.x / (kSide / kOwn) * kOwn;
  // 2 x 64 x 2 packs: half the threads fetch x, half w.
  const int i = threadIdx.x / 2 % kSide, q = threadIdx.x % 2 * 8;
  const bool of_x = threadIdx.x < kThreads / 2;
  float sum[kOwn][kOwn] = {};
  for (int64_t p = 0; p < s.k; p += kDepth) {
    const auto pack = of_x ? pack_at<in_packs>(x, s.m, s.k, c.row + i, p + q)
                           : pack_at<in_packs>(w, s.n, s.k, c.column + i, p + q);
    for (int e = 0; e < 8; ++e) (of_x ? xs : ws)[q + e][i] = static_cast<float>(pack.at[e]);
    __syncthreads();
    for (int d = 0; d < kDepth; ++d) {
      const auto a = load<4>(&xs[d][row]), b = load<4>(&ws[d][column]);
      for (int u = 0; u < kOwn; ++u)
        for (int v = 0; v < kOwn; ++v) sum[u][v] = fmaf(a.at[u], b.at[v], sum[u][v]);
    }
    __syncthreads();
  }
  write_own(y, s, c, row, column, sum);
}

// 6. Tensor cores. One instruction of a warp, mma, multiplies 16 x 16 by 16 x 8 bf16: 2048 multiply-adds,
// sums in float. Four warps compute 32 x 32 each; the pieces stay bf16 in shared memory, which halves their
// bytes, and each lane gathers its share of a fragment by 32-bit loads, two neighbours along k. Rows of 32 +
// 8 elements: 8 rows x 4 pairs, what a warp reads at a time, lie in 32 different banks.
template <bool in_packs>
__global__ void __launch_bounds__(128) tensor_cores_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  constexpr int kLong = 32, kStride = kLong + 8;
  SHARED(Eight, xs, [kSide][kStride / 8]);
  SHARED(Eight, ws, [kSide][kStride / 8]);
  const Corner c = corner<kSide, kSide>(s);
  const int g = lane_id() / 4, t = lane_id() % 4, row = warp_id() / 2 * 32, column = warp_id() % 2 * 32;
  const auto pair = [](const Eight(&tile)[kSide][kStride / 8], int i, int p) {
    return *reinterpret_cast<const uint32_t*>(&tile[i][p / 8].at[p % 8]);
  };
  float sum[2][4][4] = {};
  for (int64_t p = 0; p < s.k; p += kLong) {
    for (int e = threadIdx.x; e < kSide * kLong / 8; e += 128) {
      const int i = e / (kLong / 8), q = e % (kLong / 8);
      xs[i][q] = pack_at<in_packs>(x, s.m, s.k, c.row + i, p + 8 * q);
      ws[i][q] = pack_at<in_packs>(w, s.n, s.k, c.column + i, p + 8 * q);
    }
    __syncthreads();
#pragma unroll
    for (int q = 0; q < kLong; q += 16) {
      uint32_t a[2][4], b[4][2];
#pragma unroll
      for (int u = 0; u < 2; ++u)
        for (int r = 0; r < 4; ++r) a[u][r] = pair(xs, row + 16 * u + r % 2 * 8 + g, q + r / 2 * 8 + 2 * t);
#pragma unroll
      for (int v = 0; v < 4; ++v)
        for (int r = 0; r < 2; ++r) b[v][r] = pair(ws, column + 8 * v + g, q + r * 8 + 2 * t);
#pragma unroll
      for (int u = 0; u < 2; ++u)
#pragma unroll
        for (int v = 0; v < 4; ++v) mma_bf16(sum[u][v], a[u], b[v]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int u = 0; u < 2; ++u)
#pragma unroll
    for (int v = 0; v < 4; ++v)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t i = c.row + row + 16 * u + e / 2 * 8 + g, j = c.column + column + 8 * v + 2 * t + e % 2;
        if (i < s.m && j < s.n) y[i * s.n + j] = bf16(sum[u][v][e]);
      }
}

// 7. Shipped (gemm_mma.cuh). In step 6 the tensor cores wait: for the copies to arrive, and for 16 + 8 loads
// of fragments for 8 mma. cp.async copies from memory to shared memory without passing through registers, so
// three further steps of k are on their way while one is multiplied; ldmatrix loads four 8 x 8 pieces by one
// instruction; a warp's tile of 64 x 64 makes 32 mma of 8 such loads; and y leaves through shared memory in
// whole sectors, bias, GELU and the rest applied on the way.
void shipped(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w) {
  gemm_own(cuda, {m, n, k, false, true}, y, x, w);
}

// A step whose blocks compute kRows x kColumns elements of y each.
template <auto kernel, int kRows, int kColumns>
void run_tiles(Cuda cuda, dim3 threads, const Sizes& s, bf16* y, const bf16* x, const bf16* w) {
  if (s.m > 0 && s.n > 0) launch<kernel>(tiles<kRows, kColumns>(s), threads, 0, cuda.stream, y, x, w, s);
}

void naive(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w) {
  run_tiles<naive_kernel, 32, 8>(cuda, dim3(32, 8), {m, n, k}, y, x, w);
}
void coalesced(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w) {
  if (m > 0 && n > 0) launch<coalesced_kernel>((m * n + 7) / 8, 256, 0, cuda.stream, y, x, w, Sizes{m, n, k});
}
void shared_tiles(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w) {
  run_tiles<shared_tiles_kernel, 32, 32>(cuda, 1024, {m, n, k}, y, x, w);
}
void register_tiles(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w) {
  run_tiles<register_tiles_kernel, kSide, kSide>(cuda, kThreads, {m, n, k}, y, x, w);
}
void vectorised(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w) {
  if (in_packs<bf16>(k, {x, w}))
    run_tiles<vectorised_kernel<true>, kSide, kSide>(cuda, kThreads, {m, n, k}, y, x, w);
  else run_tiles<vectorised_kernel<false>, kSide, kSide>(cuda, kThreads, {m, n, k}, y, x, w);
}
void tensor_cores(Cuda cuda, int64_t m, int64_t n, int64_t k, bf16* y, const bf16* x, const bf16* w) {
  if (in_packs<bf16>(k, {x, w}))
    run_tiles<tensor_cores_kernel<true>, kSide, kSide>(cuda, 128, {m, n, k}, y, x, w);
  else run_tiles<tensor_cores_kernel<false>, kSide, kSide>(cuda, 128, {m, n, k}, y, x, w);
}

constexpr StudyStep<GemmRun> kSteps[] = {
    {"naive", "a thread an element", naive},
    {"coalesced", "a warp an element, side by side along k", coalesced},
    {"shared tiles", "32 x 32 tiles: an element fetched is used 32 times", shared_tiles},
    {"register tiles", "4 x 4 elements a thread: 16 multiply-adds for 8 loads", register_tiles},
    {"vectorised", "packs of 16 bytes: 16 multiply-adds for 2 loads", vectorised},
    {"tensor cores", "mma.sync: 2048 multiply-adds an instruction", tensor_cores},
    {"shipped", "cp.async pipeline, ldmatrix, 64 x 64 a warp", shipped},
};

}  // namespace

std::span<const StudyStep<GemmRun>> gemm_steps() { return kSteps; }

}  // namespace qfm
