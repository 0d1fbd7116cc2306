// Layer normalisation, forward: the maths is in layernorm.cu, the same in every step (d = x - x[0], so that
// rows far from zero keep their digits; mean, then deviations, then y); what changes is which thread
// reads what, and how often.
//
// For ViT-S at 256 images (50432 rows of 384) x and y are 39 MB each in BF16: 26 us at an H100's 3.0 TB/s.
// The 8 FLOPs an element are nothing beside that. So a step is good by how near it comes to reading x once,
// in whole sectors of 32 bytes, with enough bytes under way: 3.0 TB/s times 0.7 us of latency are 2 MB, 16 KB
// on each SM.
#include "kernels/common/cuda_loops.cuh"
#include "kernels/norm/layernorm.h"
#include "kernels/study/study.h"

namespace qfm {
namespace {

constexpr float kEps = 1e-6f;
constexpr int kWarps = kThreads / 32;

// 1. Naive: a thread a row, as the CPU would do it. Neighbouring threads read 768 bytes apart: a load of a
// warp wants 64 bytes and touches 32 sectors, 1 KB. Only the L1 cache, which has to keep a sector of every
// row until all of its 16 elements were wanted, saves it from reading x 16 times. And 50432 threads are 12
// warps an SM, each waiting for 2 bytes at a time.
__global__ void __launch_bounds__(kThreads)
    thread_a_row_kernel(int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd, const bf16* x,
                        const bf16* w, const bf16* b) {
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= rows) return;  // no barrier follows
  x += row * cols, y += row * cols;
  const float first = static_cast<float>(x[0]);
  float sum = 0, squares = 0;
  for (int64_t c = 0; c < cols; ++c) sum += static_cast<float>(x[c]) - first;
  const float m = sum / cols;
  for (int64_t c = 0; c < cols; ++c) {
    const float d = static_cast<float>(x[c]) - first - m;
    squares = fmaf(d, d, squares);
  }
  const float r = 1.0f / sqrtf(squares / cols + kEps);
  for (int64_t c = 0; c < cols; ++c)
    y[c] = bf16(
        fmaf((static_cast<float>(x[c]) - first - m) * r, static_cast<float>(w[c]), static_cast<float>(b[c])));
  mean[row] = first + m, rstd[row] = r;
}
void thread_a_row(Cuda cuda, int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd, const bf16* x,
                  const bf16* w, const bf16* b) {
  if (rows * cols == 0) return;
  launch<thread_a_row_kernel>(ceil_div(rows, kThreads), kThreads, 0, cuda.stream, rows, cols, y, mean, rstd,
                              x, w, b);
}

// 2. A warp a row. Lane l has columns l, l + 32, ...: a load of a warp is 64 bytes in a row, two whole
// sectors, and there are 32 times as many threads. The two sums go through the warp by shuffles, 5 steps
// each. The 2nd and 3rd pass find the row in the L1 cache.
// 3. Packs. The same kernel with V = 8: 16 bytes a lane and load. An eighth of the memory instructions, and 8
// times the bytes under way for each of them; now latency no longer rules.
template <int V>
__global__ void __launch_bounds__(kThreads)
    warp_a_row_kernel(int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd, const bf16* x,
                      const bf16* w, const bf16* b) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp_id();
  if (row >= rows) return;  // a whole warp; no barrier follows
  x += row * cols, y += row * cols;
  const float first = static_cast<float>(x[0]);
  float sum = 0, squares = 0;
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<bf16, V> xs = load<V>(x + c);
    for (int i = 0; i < V; ++i) sum += static_cast<float>(xs.at[i]) - first;
  }
  const float m = warp_sum(sum) / cols;
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    const Pack<bf16, V> xs = load<V>(x + c);
    for (int i = 0; i < V; ++i) {
      const float d = static_cast<float>(xs.at[i]) - first - m;
      squares = fmaf(d, d, squares);
    }
  }
  const float r = 1.0f / sqrtf(warp_sum(squares) / cols + kEps);
  for (int64_t c = lane_id() * V; c < cols; c += 32 * V) {
    Pack<bf16, V> ys = load<V>(x + c);
    const Pack<bf16, V> ws = load<V>(w + c), bs = load<V>(b + c);
    for (int i = 0; i < V; ++i)
      ys.at[i] = bf16(fmaf((static_cast<float>(ys.at[i]) - first - m) * r, static_cast<float>(ws.at[i]),
                           static_cast<float>(bs.at[i])));
    store<V>(y + c, ys);
  }
  if (lane_id() == 0) mean[row] = first + m, rstd[row] = r;
}
template <int V>
void warp_a_row(Cuda cuda, int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd, const bf16* x,
                const bf16* w, const bf16* b) {
  if (rows * cols == 0) return;
  if (V > 1 && !in_packs<bf16>(cols, {y, x, w, b}))
    return warp_a_row<1>(cuda, rows, cols, y, mean, rstd, x, w, b);
  launch<warp_a_row_kernel<V>>(ceil_div(rows, kWarps), kThreads, 0, cuda.stream, rows, cols, y, mean, rstd, x,
                               w, b);
}

// 4. Registers. The row is read once and stays, as deviations in float, in the lanes' registers: no pass asks
// the L1 cache again. All the loads of a row are issued before the first sum waits for one. But 384 columns
// are 48 packs, one and a half for each lane: in the second round half the warp idles.
constexpr int kPacks = 4;  // of a lane, so rows up to 1024 columns
__global__ void __launch_bounds__(kThreads)
    registers_kernel(int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd, const bf16* x,
                     const bf16* w, const bf16* b) {
  constexpr int V = 8;
  const int64_t row = int64_t{blockIdx.x} * kWarps + warp_id();
  if (row >= rows) return;  // a whole warp; no barrier follows
  x += row * cols, y += row * cols;
  const auto column = [](int k) { return (k * 32 + lane_id()) * V; };
  float d[kPacks][V] = {}, sum = 0, squares = 0;
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    if (column(k) >= cols) continue;
    const Pack<bf16, V> xs = load<V>(x + column(k));
    for (int i = 0; i < V; ++i) d[k][i] = static_cast<float>(xs.at[i]);
  }
  const float first = __shfl_sync(kWholeWarp, d[0][0], 0);
#pragma unroll
  for (int k = 0; k < kPacks; ++k)
    for (int i = 0; i < V && column(k) < cols; ++i) sum += d[k][i] -= first;
  const float m = warp_sum(sum) / cols;
#pragma unroll
  for (int k = 0; k < kPacks; ++k)
    for (int i = 0; i < V && column(k) < cols; ++i) d[k][i] -= m, squares = fmaf(d[k][i], d[k][i], squares);
  const float r = 1.0f / sqrtf(warp_sum(squares) / cols + kEps);
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    if (column(k) >= cols) continue;
    const Pack<bf16, V> ws = load<V>(w + column(k)), bs = load<V>(b + column(k));
    Pack<bf16, V> ys;
    for (int i = 0; i < V; ++i)
      ys.at[i] = bf16(fmaf(d[k][i] * r, static_cast<float>(ws.at[i]), static_cast<float>(bs.at[i])));
    store<V>(y + column(k), ys);
  }
  if (lane_id() == 0) mean[row] = first + m, rstd[row] = r;
}
void registers(Cuda cuda, int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd, const bf16* x,
               const bf16* w, const bf16* b) {
  if (rows * cols == 0) return;
  if (!in_packs<bf16>(cols, {y, x, w, b}) || cols > 32 * 8 * kPacks)
    return warp_a_row<8>(cuda, rows, cols, y, mean, rstd, x, w, b);
  launch<registers_kernel>(ceil_div(rows, kWarps), kThreads, 0, cuda.stream, rows, cols, y, mean, rstd, x, w,
                           b);
}

// 5. Shipped (layernorm.cu). As many lanes as fit the row: 16 lanes with 3 packs each have 384 columns, 8
// lanes have 192, and no lane idles. A warp has 2 or 4 rows under way, the shuffles are one or two steps
// shorter and serve all of them at once. The residual and LayerScale before the normalisation can ride along,
// for their bytes alone.
void shipped(Cuda cuda, int64_t rows, int64_t cols, bf16* y, float* mean, float* rstd, const bf16* x,
             const bf16* w, const bf16* b) {
  layernorm_forward(cuda, y, mean, rstd, x, w, b, rows, cols, static_cast<double>(kEps));
}

constexpr StudyStep<LayernormRun> kSteps[] = {
    {"naive", "a thread a row", thread_a_row},
    {"warp", "a warp a row: whole sectors, 32 times the threads", warp_a_row<1>},
    {"packs", "16 bytes a load", warp_a_row<8>},
    {"registers", "the row is read once and kept", registers},
    {"shipped", "as many lanes as fit the row", shipped},
};

}  // namespace

std::span<const StudyStep<LayernormRun>> layernorm_steps() { return kSteps; }

}  // namespace qfm
