// Convolution, y (batch, out, places) = x (batch, channels, height, width) * w (out, channels, size, size),
// from seven loops to the shipped kernels.
//
// Written as a product of matrices it is y[o, place] = sum over lines of w[o, line] X[line, place], where a
// line is a channel and a tap (c, u, v), a place an image and a position (b, i, j), and X[line, place] the
// element that the tap sees from there. X is 9 times as large as x for 3 x 3, so nobody writes it down: the
// question of gemm.cu, how many multiply-adds an element pays for once it has been fetched, gets a second
// one: what does it cost to find it? For 3 x 3 of 256 channels at 14 x 14, 64 images (14.8 GFLOP, 14 MB) an
// H100 at 800 TFLOP/s and 3.0 TB/s needs 19 us and 5 us.
#include "engine/cuda/launch.h"
#include "engine/cuda/warp_ops.h"
#include "kernels/conv/conv2d.h"
#include "kernels/study/study.h"

namespace qfm {
namespace {

struct Axis {
  int length, positions, size, stride, pad, dilation;
};
struct Sizes {
  int channels, out, lines, places;
  Axis y, x;
};

Sizes sizes_of(const ConvShape& s) {
  const auto of = [](int64_t v) { return static_cast<int>(v); };
  const auto axis = [&](const Window& w, int64_t length) {
    return Axis{of(length),   of(w.positions(length)), of(w.size),
                of(w.stride), of(w.pad_begin),         of(w.dilation)};
  };
  return {of(s.in_channels),
          of(s.out_channels),
          of(s.in_channels * s.taps()),
          of(s.batch * s.out_height() * s.out_width()),
          axis(s.y, s.height),
          axis(s.x, s.width)};
}

// Where a place lies in y, in channel 0.
__device__ inline int64_t place_in_y(const Sizes& s, int place) {
  const int plane = s.y.positions * s.x.positions;
  return int64_t{place / plane} * s.out * plane + place % plane;
}
__device__ inline bool inside(int at, int length) {
  return static_cast<unsigned>(at) < static_cast<unsigned>(length);
}

// X[line, place], zero outside of it and of the image: six divisions.
__device__ inline bf16 seen(const bf16* x, const Sizes& s, int line, int place) {
  if (line >= s.lines || place >= s.places) return bf16(0.0f);
  const int taps = s.y.size * s.x.size, plane = s.y.positions * s.x.positions, c = line / taps,
            at = place % plane;
  const int row = at / s.x.positions * s.y.stride - s.y.pad + line % taps / s.x.size * s.y.dilation;
  const int column = at % s.x.positions * s.x.stride - s.x.pad + line % s.x.size * s.x.dilation;
  if (!inside(row, s.y.length) || !inside(column, s.x.length)) return bf16(0.0f);
  return x[((int64_t{place / plane} * s.channels + c) * s.y.length + row) * s.x.length + column];
}
__device__ inline bf16 weight(const bf16* w, const Sizes& s, int o, int line) {
  return o < s.out && line < s.lines ? w[int64_t{o} * s.lines + line] : bf16(0.0f);
}

// The thread's element of y for steps 1 and 2.
__device__ inline void one_element(bf16* y, const bf16* x, const bf16* w, const Sizes& s, int o, int place) {
  if (o >= s.out || place >= s.places) return;
  float sum = 0;
  for (int line = 0; line < s.lines; ++line)
    sum = fmaf(static_cast<float>(w[int64_t{o} * s.lines + line]),
               static_cast<float>(seen(x, s, line, place)), sum);
  y[place_in_y(s, place) + int64_t{o} * s.y.positions * s.x.positions] = bf16(sum);
}

// 1. Naive. A thread computes one element of y, neighbours in a warp lie in neighbouring channels. All
// threads of a warp read the same element of x, which is one fetch, but weights that lie `lines` apart and
// elements of y a plane apart: 32 sectors of 32 bytes each, for 2 bytes of each.
__global__ void naive_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  one_element(y, x, w, s, blockIdx.y * 32 + threadIdx.x, blockIdx.x * 8 + threadIdx.y);
}

// 2. Coalesced. Neighbours lie in neighbouring places: a warp reads 64 bytes of a row of x side by side, shifted by the
// tap, one weight for all of them, and writes 64 bytes of y. Every multiply-add still fetches two elements, from the L1
// cache mostly, and works out anew where its element lies.
__global__ void coalesced_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  one_element(y, x, w, s, blockIdx.y * 8 + threadIdx.y, blockIdx.x * 32 + threadIdx.x);
}

// 3. Shared tiles. The implicit product: a block computes 32 channels x 32 places and gathers pieces of 32 lines into
// shared memory first. An element that has been found and fetched is used 32 times.
__global__ void __launch_bounds__(1024) shared_tiles_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  SHARED(float, xs, [32][33]);
  SHARED(float, ws, [32][33]);
  const int n = threadIdx.x % 32, o = threadIdx.x / 32, first = blockIdx.y * 32, place = blockIdx.x * 32 + n;
  float sum = 0;
  for (int k = 0; k < s.lines; k += 32) {
    xs[o][n] = static_cast<float>(seen(x, s, k + o, place));
    ws[o][n] = static_cast<float>(weight(w, s, first + o, k + n));
    __syncthreads();
    for (int q = 0; q < 32; ++q) sum = fmaf(ws[o][q], xs[q][n], sum);
    __syncthreads();
  }
  if (first + o < s.out && place < s.places)
    y[place_in_y(s, place) + int64_t{first + o} * s.y.positions * s.x.positions] = bf16(sum);
}

// 4. Register tiles. A thread computes 4 x 4 elements: 8 loads from shared memory pay for 16 multiply-adds,
// not 2 for one, and the tile grows to 64 x 64, so that an element is used 64 times. Neighbouring threads
// have places next to each other, their own 16 apart: they read neighbouring banks and write neighbouring
// elements of y.
constexpr int kSide = 64, kDepth = 16, kOwn = 4, kThreads = 256;

__device__ inline void write_own(bf16* y, const Sizes& s, int o, int place, const float (&sum)[kOwn][kOwn]) {
  for (int j = 0; j < kOwn; ++j) {
    const int n = place + j * kSide / kOwn;
    if (n >= s.places) continue;
    const int64_t at = place_in_y(s, n);
    for (int i = 0; i < kOwn; ++i)
      if (o + i < s.out) y[at + int64_t{o + i} * s.y.positions * s.x.positions] = bf16(sum[i][j]);
  }
}

// Adds the products of one pair of pieces; o, n: the thread's first row and column.
__device__ inline void multiply_own(float (&sum)[kOwn][kOwn], const float (&ws)[kDepth][kSide + 4],
                                    const float (&xs)[kDepth][kSide], int o, int n) {
  for (int q = 0; q < kDepth; ++q) {
    float a[kOwn], b[kOwn];
    for (int i = 0; i < kOwn; ++i) a[i] = ws[q][o + i], b[i] = xs[q][n + i * kSide / kOwn];
    for (int i = 0; i < kOwn; ++i)
      for (int j = 0; j < kOwn; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
  }
}

__global__ void __launch_bounds__(kThreads)
    register_tiles_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  SHARED(float, xs, [kDepth][kSide]);
  SHARED(float, ws, [kDepth][kSide + 4]);
  const int first = blockIdx.y * kSide, place = blockIdx.x * kSide;
  const int n = threadIdx.x % (kSide / kOwn), o = threadIdx.x / (kSide / kOwn) * kOwn;
  float sum[kOwn][kOwn] = {};
  for (int k = 0; k < s.lines; k += kDepth) {
    for (int e = threadIdx.x; e < kSide * kDepth; e += kThreads) {
      xs[e / kSide][e % kSide] = static_cast<float>(seen(x, s, k + e / kSide, place + e % kSide));
      ws[e % kDepth][e / kDepth] = static_cast<float>(weight(w, s, first + e / kDepth, k + e % kDepth));
    }
    __syncthreads();
    multiply_own(sum, ws, xs, o, n);
    __syncthreads();
  }
  write_own(y, s, first + o, place + n, sum);
}

// 5. Counted. In step 4 an element costs six divisions, about as much as the 16 multiply-adds of a thread for
// it. But a thread gathers the same place in every piece, so that its row and column are worked out once, and
// its lines are kLineStep apart: tap and channel are counted up like the digits of a number. What is left is
// one comparison for each side of the image and one multiply-add for the address.
class CountedGather {
 public:
  __device__ CountedGather(const bf16* x, const Sizes& s, int line, int place) : s_(s) {
    const int plane = s.y.positions * s.x.positions, at = place % plane;
    row_ = place < s.places ? at / s.x.positions * s.y.stride - s.y.pad : -(1 << 30);
    column_ = at % s.x.positions * s.x.stride - s.x.pad;
    image_ = x + int64_t{place / plane} * s.channels * s.y.length * s.x.length;
    v_ = line % s.x.size, u_ = line / s.x.size % s.y.size, c_ = line / (s.x.size * s.y.size);
  }
  __device__ bf16 next(int lines) {
    const int row = row_ + u_ * s_.y.dilation, column = column_ + v_ * s_.x.dilation;
    const bool there = c_ < s_.channels && inside(row, s_.y.length) && inside(column, s_.x.length);
    const bf16 v = there ? image_[(c_ * s_.y.length + row) * s_.x.length + column] : bf16(0.0f);
    for (v_ += lines; v_ >= s_.x.size; v_ -= s_.x.size)
      if (++u_ == s_.y.size) u_ = 0, ++c_;
    return v;
  }

 private:
  const Sizes& s_;
  const bf16* image_;
  int row_, column_, u_, v_, c_;
};

__global__ void __launch_bounds__(kThreads) counted_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  constexpr int kLineStep = kThreads / kSide;
  SHARED(float, xs, [kDepth][kSide]);
  SHARED(float, ws, [kDepth][kSide + 4]);
  const int first = blockIdx.y * kSide, place = blockIdx.x * kSide;
  const int n = threadIdx.x % (kSide / kOwn), o = threadIdx.x / (kSide / kOwn) * kOwn;
  const int mine = threadIdx.x % kSide, line = threadIdx.x / kSide;
  CountedGather gather(x, s, line, place + mine);
  float sum[kOwn][kOwn] = {};
  for (int k = 0; k < s.lines; k += kDepth) {
    for (int q = line; q < kDepth; q += kLineStep) xs[q][mine] = static_cast<float>(gather.next(kLineStep));
    for (int e = threadIdx.x; e < kSide * kDepth; e += kThreads)
      ws[e % kDepth][e / kDepth] = static_cast<float>(weight(w, s, first + e / kDepth, k + e % kDepth));
    __syncthreads();
    multiply_own(sum, ws, xs, o, n);
    __syncthreads();
  }
  write_own(y, s, first + o, place + n, sum);
}

// 6. Tensor cores. The same tile by mma (2048 multiply-adds an instruction of a warp), four warps of 32 x 32.
// The pieces stay bf16, in the order in which they were gathered: weights with lines along the rows, images
// with places along the rows, so their fragments come by ldmatrix as it is and by its transposing form. Rows
// of 32 + 8 and 64 + 8 elements put the 8 rows that it reads at a time into different banks.
__global__ void __launch_bounds__(128) tensor_cores_kernel(bf16* y, const bf16* x, const bf16* w, Sizes s) {
  constexpr int kLong = 32, kLineStep = 128 / kSide;
  using Eight = Pack<bf16, 8>;
  SHARED(Eight, x_piece, [kLong][(kSide + 8) / 8]);
  SHARED(Eight, w_piece, [kSide][(kLong + 8) / 8]);
  const int first = blockIdx.y * kSide, place = blockIdx.x * kSide, row = warp_id() / 2 * 32,
            column = warp_id() % 2 * 32;
  const int mine = threadIdx.x % kSide, line = threadIdx.x / kSide, lane = lane_id();
  CountedGather gather(x, s, line, place + mine);
  float sum[2][4][4] = {};
  for (int k = 0; k < s.lines; k += kLong) {
    for (int q = line; q < kLong; q += kLineStep) x_piece[q][mine / 8].at[mine % 8] = gather.next(kLineStep);
    for (int e = threadIdx.x; e < kSide * kLong; e += 128)
      w_piece[e / kLong][e % kLong / 8].at[e % 8] = weight(w, s, first + e / kLong, k + e % kLong);
    __syncthreads();
#pragma unroll
    for (int q = 0; q < kLong; q += 16) {
      uint32_t a[2][4], b[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) ldmatrix_x4(a[i], &w_piece[row + 16 * i + lane % 16][q / 8 + lane / 16]);
#pragma unroll
      for (int j = 0; j < 2; ++j)
        ldmatrix_x4_trans(b[j], &x_piece[q + lane % 16][(column + 16 * j) / 8 + lane / 16]);
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) mma_bf16(sum[i][j], a[i], {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]});
    }
    __syncthreads();
  }
#pragma unroll
  for (int j = 0; j < 4; ++j)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int n = place + column + 8 * j + lane % 4 * 2 + half;
      if (n >= s.places) continue;
      const int64_t at = place_in_y(s, n);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int o = first + row + 8 * i + lane / 4;
        if (o < s.out)
          y[at + int64_t{o} * s.y.positions * s.x.positions] = bf16(sum[i / 2][j][i % 2 * 2 + half]);
      }
    }
}

// 7. Shipped (conv_product.cuh). In step 6 the tensor cores wait for the gather. Here the elements of three steps ahead
// are on their way while one is multiplied, images through registers, weights by cp.async in packs of 16 bytes; images
// under a 1 x 1 window come in packs too. A warp's tile of 64 x 32 makes 32 mma of 12 fragments, the elements of two
// places are stored to shared memory together, and y leaves through shared memory in packs, with scale, shift, residual
// and activation applied on the way.
void shipped(Cuda cuda, const ConvShape& s, bf16* y, const bf16* x, const bf16* w) {
  conv2d_forward_own(cuda, s, y, x, w);
}

// A step whose blocks compute kOut channels x kPlaces places each.
template <auto kernel, int kOut, int kPlaces>
void run_tiles(Cuda cuda, dim3 threads, const ConvShape& shape, bf16* y, const bf16* x, const bf16* w) {
  const Sizes s = sizes_of(shape);
  const dim3 grid((s.places + kPlaces - 1) / kPlaces, (s.out + kOut - 1) / kOut);
  launch<kernel>(grid, threads, 0, cuda.stream, y, x, w, s);
}
void naive(Cuda cuda, const ConvShape& s, bf16* y, const bf16* x, const bf16* w) {
  run_tiles<naive_kernel, 32, 8>(cuda, dim3(32, 8), s, y, x, w);
}
void coalesced(Cuda cuda, const ConvShape& s, bf16* y, const bf16* x, const bf16* w) {
  run_tiles<coalesced_kernel, 8, 32>(cuda, dim3(32, 8), s, y, x, w);
}
void shared_tiles(Cuda cuda, const ConvShape& s, bf16* y, const bf16* x, const bf16* w) {
  run_tiles<shared_tiles_kernel, 32, 32>(cuda, 1024, s, y, x, w);
}
void register_tiles(Cuda cuda, const ConvShape& s, bf16* y, const bf16* x, const bf16* w) {
  run_tiles<register_tiles_kernel, kSide, kSide>(cuda, kThreads, s, y, x, w);
}
void counted(Cuda cuda, const ConvShape& s, bf16* y, const bf16* x, const bf16* w) {
  run_tiles<counted_kernel, kSide, kSide>(cuda, kThreads, s, y, x, w);
}
void tensor_cores(Cuda cuda, const ConvShape& s, bf16* y, const bf16* x, const bf16* w) {
  run_tiles<tensor_cores_kernel, kSide, kSide>(cuda, 128, s, y, x, w);
}

constexpr StudyStep<ConvRun> kSteps[] = {
    {"naive", "a thread an element, neighbours in neighbouring channels", naive},
    {"coalesced", "neighbours in neighbouring places", coalesced},
    {"shared tiles", "the implicit product in 32 x 32 tiles: an element is used 32 times", shared_tiles},
    {"register tiles", "4 x 4 elements a thread: 16 multiply-adds for 8 loads", register_tiles},
    {"counted", "lines counted up: no divisions where elements are gathered", counted},
    {"tensor cores", "mma.sync: 2048 multiply-adds an instruction", tensor_cores},
    {"shipped", "gather and cp.async ahead of the product, 64 x 32 a warp", shipped},
};

}  // namespace

std::span<const StudyStep<ConvRun>> conv_steps() { return kSteps; }

}  // namespace qfm
