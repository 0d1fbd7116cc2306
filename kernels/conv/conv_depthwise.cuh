// Depthwise convolution: every channel has its own window, so that there is no product of matrices and memory decides.
// Included by conv2d.cu.
//
// A thread has kOwn neighbouring results of a row. Under a window of a size and stride known to the compiler it reads
// each row of the image that they see once, (kOwn - 1) stride + size elements: for 3 x 3 with stride 1 4.5 loads a
// result and not 9, and where the image's rows are whole packs and padded on both sides alike one pack and two
// elements, 2.25. The rows below and above come from the L1 cache. Any other window reads every tap of every result.
// Forward and dx of stride 1 are one kernel: dx is dy under the window turned round. The dx of stride 2 takes for each
// element the taps of its parity.
//
// Cost: 2 taps flops a result, and each element of image and result once through memory: EfficientNet's 3 x 3 of 32
// channels at 112 x 112, 64 images in BF16, moves 103 MB, 34 us at 3.0 TB/s; its 0.46 GFLOP are 14 us of an H100's FMA.
#pragma once
#include "kernels/common/cuda_loops.cuh"
#include "kernels/conv/conv_epilogue.cuh"

namespace qfm {

constexpr int kOwn = 4;

// Planes of `height` x `width` are read, planes of out_height x out_width written, a thread's results `packs` to a row.
struct DepthwiseShape {
  int batch, channels, height, width, out_height, out_width, packs;
  int taps_y, taps_x, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;
  bool turned = false;  // tap (u, v) has the weight of the last but that
  bool same_packs =
      false;  // rows are whole packs, and as many elements of padding left and right keep their length
  bool out_packs = false;  // the result's rows are whole packs
  int taps() const { return taps_y * taps_x; }
};

// What kOwn neighbouring results see of a row of the image.
template <int size, int stride>
struct RowWindow {
  static constexpr int kSpan = (kOwn - 1) * stride + size;
  float at[kSpan];
  // From column `first` on, zeros outside.
  template <class T>
  __device__ void read(const T* row, int first, int width, bool same_packs) {
    const auto element = [&](int k) {
      const int column = first + k;
      at[k] = static_cast<unsigned>(column) < static_cast<unsigned>(width) ? static_cast<float>(row[column])
                                                                           : 0.0f;
    };
    if (stride == 1 && same_packs) {
      constexpr int kMiddle = size / 2;
      const auto pack = load<kOwn>(row + first + kMiddle);
#pragma unroll
      for (int k = 0; k < kSpan; ++k)
        if (k >= kMiddle && k < kMiddle + kOwn) at[k] = static_cast<float>(pack.at[k - kMiddle]);
        else element(k);
    } else {
#pragma unroll
      for (int k = 0; k < kSpan; ++k) element(k);
    }
  }
};

// (channel, row, pack) of a thread's results.
__device__ inline Digits own_place(const DepthwiseShape& s, int i) {
  return Digits(i, s.out_height, s.packs);
}
// The results from (channel, row, column) on: those that are there.
template <class T>
__device__ void write_own(const ConvOutput<T>& to, const DepthwiseShape& s, float (&v)[kOwn], int64_t image,
                          const Digits& at) {
  const int column = at.low * kOwn;
  const int64_t place = ((image * s.channels + at.high) * s.out_height + at.mid) * s.out_width + column;
  const int count = s.out_width - column < kOwn ? s.out_width - column : kOwn;
#pragma unroll
  for (int e = 0; e < kOwn; ++e) {
    const float residual =
        to.epilogue.residual && e < count ? static_cast<float>(to.epilogue.residual[place + e]) : 0.0f;
    v[e] = finish_conv_value(to.epilogue, v[e], at.high, residual);
  }
  if (s.out_packs) {
    store<kOwn>(to.y + place, round_pack<T>(v));
  } else {
#pragma unroll
    for (int e = 0; e < kOwn; ++e)
      if (e < count) to.y[place + e] = T(v[e]);
  }
}

// size = stride = 0: any. Others: of both axes, undilated. blockIdx.y: images.
template <class T, int size, int stride>
__global__ void __launch_bounds__(kThreads, 3)
    depthwise_kernel(ConvOutput<T> to, const T* x, const T* w, DepthwiseShape s) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const Digits at = own_place(s, i);
  if (at.high >= s.channels) return;
  const int taps = size > 0 ? size * size : s.taps_y * s.taps_x;
  const T* weight = w + int64_t{at.high} * taps;
  const auto weight_of = [&](int tap) { return static_cast<float>(weight[s.turned ? taps - 1 - tap : tap]); };
  for (int64_t image = blockIdx.y; image < s.batch; image += gridDim.y) {
    const T* plane = x + (image * s.channels + at.high) * s.height * s.width;
    float sum[kOwn] = {};
    if constexpr (size > 0) {
#pragma unroll
      for (int u = 0; u < size; ++u) {
        const int row = at.mid * stride - s.pad_y + u;
        if (static_cast<unsigned>(row) >= static_cast<unsigned>(s.height)) continue;
        RowWindow<size, stride> seen;
        seen.read(plane + int64_t{row} * s.width, at.low * kOwn * stride - s.pad_x, s.width, s.same_packs);
#pragma unroll
        for (int v = 0; v < size; ++v) {
          const float by = weight_of(u * size + v);
#pragma unroll
          for (int e = 0; e < kOwn; ++e) sum[e] = fmaf(by, seen.at[e * stride + v], sum[e]);
        }
      }
    } else {
      for (int u = 0; u < s.taps_y; ++u) {
        const int row = at.mid * s.stride_y - s.pad_y + u * s.dilation_y;
        if (static_cast<unsigned>(row) >= static_cast<unsigned>(s.height)) continue;
        for (int v = 0; v < s.taps_x; ++v) {
          const float by = weight_of(u * s.taps_x + v);
          for (int e = 0; e < kOwn; ++e) {
            const int column = (at.low * kOwn + e) * s.stride_x - s.pad_x + v * s.dilation_x;
            if (static_cast<unsigned>(column) < static_cast<unsigned>(s.width))
              sum[e] = fmaf(by, static_cast<float>(plane[int64_t{row} * s.width + column]), sum[e]);
          }
        }
      }
    }
    write_own(to, s, sum, image, at);
  }
}

// Adds to kOwn elements of dx, of one row from column `first` on, what a row of dy under stride 2 gives them. odd: that
// first + padding is. base: the place that element 0 meets through the first tap of its parity, if that were tap 0.
template <int size, int odd, class T>
__device__ void add_of_stride_2(float (&sum)[kOwn], const T* dy, int base, int width, const T* weight) {
  constexpr int kLeft = (size - 1 - odd + 1) / 2, kSpan = kLeft + (kOwn - 1 + odd) / 2 + 1;
  float seen[kSpan];
#pragma unroll
  for (int k = 0; k < kSpan; ++k) {
    const int column = base - kLeft + k;
    seen[k] =
        static_cast<unsigned>(column) < static_cast<unsigned>(width) ? static_cast<float>(dy[column]) : 0.0f;
  }
#pragma unroll
  for (int v = 0; v < size; ++v) {
    const float by = static_cast<float>(weight[v]);
#pragma unroll
    for (int e = 0; e < kOwn; ++e)
      if ((e + odd - v) % 2 == 0) sum[e] = fmaf(by, seen[(e + odd - v) / 2 + kLeft], sum[e]);
  }
}

// dx where a stride is not 1; the planes that are written are dx's. size 0: any window; else its stride is 2.
template <class T, int size>
__global__ void __launch_bounds__(kThreads, 3)
    depthwise_dx_kernel(ConvOutput<T> to, const T* dy, const T* w, DepthwiseShape s) {
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const Digits at = own_place(s, i);
  if (at.high >= s.channels) return;
  const T* weight = w + int64_t{at.high} * (size > 0 ? size * size : s.taps_y * s.taps_x);
  const int first = at.low * kOwn + s.pad_x;
  for (int64_t image = blockIdx.y; image < s.batch; image += gridDim.y) {
    const T* plane = dy + (image * s.channels + at.high) * s.height * s.width;
    float sum[kOwn] = {};
    if constexpr (size > 0) {
#pragma unroll
      for (int u = 0; u < size; ++u) {
        const int twice = at.mid + s.pad_y - u;
        if (twice % 2 != 0 || static_cast<unsigned>(twice / 2) >= static_cast<unsigned>(s.height)) continue;
        const T* row = plane + int64_t{twice / 2} * s.width;
        if (first % 2 != 0) add_of_stride_2<size, 1>(sum, row, (first - 1) / 2, s.width, weight + u * size);
        else add_of_stride_2<size, 0>(sum, row, first / 2, s.width, weight + u * size);
      }
    } else {
      for (int u = 0; u < s.taps_y; ++u) {
        const int down = at.mid + s.pad_y - u * s.dilation_y;
        if (down % s.stride_y != 0 ||
            static_cast<unsigned>(down / s.stride_y) >= static_cast<unsigned>(s.height))
          continue;
        const T* row = plane + int64_t{down / s.stride_y} * s.width;
        for (int v = 0; v < s.taps_x; ++v)
          for (int e = 0; e < kOwn; ++e) {
            const int right = first + e - v * s.dilation_x;
            if (right % s.stride_x == 0 &&
                static_cast<unsigned>(right / s.stride_x) < static_cast<unsigned>(s.width))
              sum[e] = fmaf(static_cast<float>(weight[u * s.taps_x + v]),
                            static_cast<float>(row[right / s.stride_x]), sum[e]);
          }
      }
    }
    write_own(to, s, sum, image, at);
  }
}

// The sums of a block's threads in kSums variables each, added lane by lane, then warp by warp; of(i, sum) gets them.
template <int kSums, class Of>
__device__ void block_sums(const float (&v)[kSums], Of&& of) {
  SHARED(float, part, [kThreads / 32][kSums]);
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    const float sum = warp_sum(v[i]);
    if (lane_id() == 0) part[warp_id()][i] = sum;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kSums; i += kThreads) {
    float sum = 0;
    for (int k = 0; k < kThreads / 32; ++k) sum += part[k][i];
    of(i, sum);
  }
}

constexpr int kTapsAtOnce = 8;  // of any window

// dw (parts, channels, taps) and, unless null, db (parts, channels): a block adds up one channel's places of one part,
// each `length` packs of all images. blockIdx.x: channels; y: parts; z: of any window, kTapsAtOnce taps.
template <class T, int size, int stride>
__global__ void __launch_bounds__(kThreads, 3)
    depthwise_dw_kernel(float* dw, float* db, const T* dy, const T* x, DepthwiseShape s, int64_t length) {
  constexpr int kTaps = size > 0 ? size * size : kTapsAtOnce;
  const int channel = blockIdx.x, first_tap = static_cast<int>(blockIdx.z) * kTapsAtOnce;
  const int64_t packs = int64_t{s.batch} * s.out_height * s.packs, begin = blockIdx.y * length;
  const int64_t end = begin + length < packs ? begin + length : packs;
  float sum[kTaps + 1] = {};
  Digits at(static_cast<int>(begin + threadIdx.x), s.out_height, s.packs);
  const Digits step(kThreads, s.out_height, s.packs);
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads, at.add(step, s.out_height, s.packs)) {
    const int64_t plane = int64_t{at.high} * s.channels + channel;
    const int column = at.low * kOwn, count = s.out_width - column < kOwn ? s.out_width - column : kOwn;
    const T* gradients = dy + (plane * s.out_height + at.mid) * s.out_width + column;
    const T* image = x + plane * s.height * s.width;
    float g[kOwn] = {};
    if (s.out_packs) {
      const auto pack = load<kOwn>(gradients);
#pragma unroll
      for (int e = 0; e < kOwn; ++e) g[e] = static_cast<float>(pack.at[e]);
    } else {
#pragma unroll
      for (int e = 0; e < kOwn; ++e)
        if (e < count) g[e] = static_cast<float>(gradients[e]);
    }
#pragma unroll
    for (int e = 0; e < kOwn; ++e) sum[kTaps] += g[e];
    if constexpr (size > 0) {
#pragma unroll
      for (int u = 0; u < size; ++u) {
        const int row = at.mid * stride - s.pad_y + u;
        if (static_cast<unsigned>(row) >= static_cast<unsigned>(s.height)) continue;
        RowWindow<size, stride> seen;
        seen.read(image + int64_t{row} * s.width, column * stride - s.pad_x, s.width, s.same_packs);
#pragma unroll
        for (int v = 0; v < size; ++v)
#pragma unroll
          for (int e = 0; e < kOwn; ++e)
            sum[u * size + v] = fmaf(g[e], seen.at[e * stride + v], sum[u * size + v]);
      }
    } else {
#pragma unroll
      for (int t = 0; t < kTaps; ++t) {
        const int tap = first_tap + t, row = at.mid * s.stride_y - s.pad_y + tap / s.taps_x * s.dilation_y;
        if (tap >= s.taps_y * s.taps_x || static_cast<unsigned>(row) >= static_cast<unsigned>(s.height))
          continue;
#pragma unroll
        for (int e = 0; e < kOwn; ++e) {
          const int seen = (column + e) * s.stride_x - s.pad_x + tap % s.taps_x * s.dilation_x;
          if (e < count && static_cast<unsigned>(seen) < static_cast<unsigned>(s.width))
            sum[t] = fmaf(g[e], static_cast<float>(image[int64_t{row} * s.width + seen]), sum[t]);
        }
      }
    }
  }
  const int64_t slot = int64_t{blockIdx.y} * s.channels + channel;
  block_sums(sum, [&](int i, float v) {
    if (i == kTaps) {
      if (db && first_tap == 0) db[slot] = v;
    } else if (first_tap + i < s.taps_y * s.taps_x) {
      dw[slot * (s.taps_y * s.taps_x) + first_tap + i] = v;
    }
  });
}

}  // namespace qfm
