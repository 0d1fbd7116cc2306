// The images of a convolution as one operand of a matrix product: which element of an image meets which place of the
// result, and how a block's part of them comes into shared memory (gemm_pipeline.cuh). Included by convolutions only.
//
// The operand is a matrix that is never written down: line (c, u, v) holds, for every place (b, i, j) of the result,
// the element of image b, channel c, that tap (u, v) sees from there, or zero where that is padding. A forward, one
// phase of an image gradient and a weight gradient are products with it; they differ in two ConvAxis only:
//   forward: place i meets i stride - pad + u dilation.
//   dx of stride s: y's element i touches h = i s - pad + u dilation. The h = q s + r of one phase r take the taps
//   with r + pad - u dilation divisible by s, which are every s / gcd(s, dilation)-th one, and there i = q + (r + pad -
//   u dilation) / s: places meet neighbouring elements of dy. s x s phases do the work of the forward, no more.
#pragma once
#include "engine/cuda/warp_ops.h"
#include "kernels/conv/conv2d.h"

namespace qfm {

// Place i and tap t meet element i * step + origin + t * tap_step of the image. The place lies at out_first + i *
// out_step of the result, the tap is number first_tap + t * tap_every of the weight.
struct ConvAxis {
  int places, step, origin, taps, tap_step, out_first, out_step, first_tap, tap_every;
};

QFM_HD inline ConvAxis forward_axis(const Window& w, int places) {
  return {places,
          static_cast<int>(w.stride),
          static_cast<int>(-w.pad_begin),
          static_cast<int>(w.size),
          static_cast<int>(w.dilation),
          0,
          1,
          0,
          1};
}
// Of an image's axis with `length` elements those of one phase.
QFM_HD inline ConvAxis dx_axis(const Window& w, int length, int phase) {
  const int s = static_cast<int>(w.stride), d = static_cast<int>(w.dilation), size = static_cast<int>(w.size);
  const int from = phase + static_cast<int>(w.pad_begin);
  int first = 0, every = 1;
  while (first < size && first < s && (from - first * d) % s != 0) ++first;
  while (every < size && every * d % s != 0) ++every;
  const bool any = first < size && (from - first * d) % s == 0;
  return {phase < length ? (length - phase + s - 1) / s : 0,
          1,
          any ? (from - first * d) / s : 0,
          any ? (size - first + every - 1) / every : 0,
          -(every * d / s),
          phase,
          s,
          first,
          every};
}

// The channels of one group of (batch, channels, height, width).
template <class T>
struct ConvImage {
  const T* data;
  int64_t stride;  // from image to image
  int channels, height, width;
  QFM_HD int area() const { return height * width; }
};

// A number with three digits, which counts up without divisions: (image, row, column), (channel, tap row, tap column).
struct Digits {
  int high, mid, low;
  Digits() = default;
  __device__ Digits(int n, int mids, int lows)
      : high(n / (mids * lows)), mid(n / lows % mids), low(n % lows) {}
  __device__ void add(const Digits& n, int mids, int lows) {
    low += n.low, mid += n.mid, high += n.high;
    if (low >= lows) low -= lows, ++mid;
    if (mid >= mids) mid -= mids, ++high;
  }
};

constexpr int kOutsideImage = -(1 << 30);  // as a row: no tap brings it back
template <class T>
constexpr int kRun = 4 / sizeof(T);  // elements that a thread puts into shared memory together

// A thread's share of filling slots whose rows are lines of the operand, kDepth a step, from line 0 on, at the
// places from `place` on; zeros past the last line and place. A thread keeps to kRun places: what they see of
// every line differs only by where the tap is.
template <class Slot, int kThreads, class T>
class LineGather {
 public:
  __device__ LineGather(const ConvImage<T>& from, const ConvAxis& y, const ConvAxis& x, int place, int places)
      : from_(from),
        down_(y.tap_step),
        right_(x.tap_step),
        tap_rows_(y.taps > 0 ? y.taps : 1),
        tap_columns_(x.taps > 0 ? x.taps : 1),
        side_(threadIdx.x % kWords * kRun<T>),
        line_(threadIdx.x / kWords),
        at_(line_, tap_rows_, tap_columns_),
        step_(kLineStep, tap_rows_, tap_columns_) {
#pragma unroll
    for (int e = 0; e < kRun<T>; ++e) {
      const int n = place + side_ + e;
      const Digits p(n, y.places, x.places);
      top_[e] = n < places ? p.mid * y.step + y.origin : kOutsideImage;
      left_[e] = p.low * x.step + x.origin;
      first_[e] = p.high * from.stride + int64_t{top_[e]} * from.width + left_[e];
    }
  }
  __device__ void next(T* slot) {
    slot_ = slot;
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
      const int down = at_.mid * down_, right = at_.low * right_;
      const int offset = at_.high * from_.area() + down * from_.width + right;
#pragma unroll
      for (int e = 0; e < kRun<T>; ++e) {
        const bool inside = at_.high < from_.channels &&
                            static_cast<unsigned>(top_[e] + down) < static_cast<unsigned>(from_.height) &&
                            static_cast<unsigned>(left_[e] + right) < static_cast<unsigned>(from_.width);
        values_[k].at[e] = inside ? from_.data[first_[e] + offset] : T(0.0f);
      }
      at_.add(step_, tap_rows_, tap_columns_);
    }
  }
  __device__ void done() {
#pragma unroll
    for (int k = 0; k < kPasses; ++k)
      store_shared<kRun<T>>(slot_ + Slot::place(side_, line_ + k * kLineStep), values_[k]);
  }

 private:
  static constexpr int kWords = Slot::kSide / kRun<T>, kLineStep = kThreads / kWords;
  static constexpr int kPasses = Slot::kDepth / kLineStep;
  static_assert(!Slot::along_k && kThreads % kWords == 0 && Slot::kDepth % kLineStep == 0);
  ConvImage<T> from_;
  int down_, right_, tap_rows_, tap_columns_, side_, line_;
  Digits at_, step_;
  int top_[kRun<T>], left_[kRun<T>];
  int64_t first_[kRun<T>];
  Pack<T, kRun<T>> values_[kPasses];
  T* slot_ = nullptr;
};

// The same for a window of one element, stride 1, no padding, where every channel is whole packs: 16 bytes at a time.
template <class Slot, int kThreads, class T>
class LinePacks {
 public:
  __device__ LinePacks(const ConvImage<T>& from, const ConvAxis&, const ConvAxis&, int place, int places)
      : area_(from.area()), side_(threadIdx.x % kPacks * kPack<T>), line_(threadIdx.x / kPacks) {
    const int n = place + side_;
    lines_ = n < places ? from.channels - line_ : 0;
    source_ = from.data + n / area_ * from.stride + n % area_ + int64_t{line_} * area_;
  }
  __device__ void next(T* slot) {
#pragma unroll
    for (int k = 0; k < kPasses; ++k, source_ += kLineStep * int64_t{area_})
      cp_async16(slot + Slot::place(side_, line_ + k * kLineStep), source_, k * kLineStep < lines_);
    lines_ -= Slot::kDepth;
  }
  __device__ void done() {}

 private:
  static constexpr int kPacks = Slot::kSide / kPack<T>, kLineStep = kThreads / kPacks;
  static constexpr int kPasses = Slot::kDepth / kLineStep;
  static_assert(!Slot::along_k && kThreads % kPacks == 0 && Slot::kDepth % kLineStep == 0);
  int area_, side_, line_, lines_;
  const T* source_;
};

// What a line adds to a place, for slots that hold lines along k: {offset, rows down, columns right, unused}.
using ConvLine = Pack<int, 4>;
template <int kLines, int kThreads, class T>
__device__ void make_lines(ConvLine (&to)[kLines], const ConvImage<T>& from, const ConvAxis& y,
                           const ConvAxis& x, int first) {
  for (int i = threadIdx.x; i < kLines; i += kThreads) {
    const Digits at(first + i, y.taps, x.taps);
    const int down = at.high < from.channels ? at.mid * y.tap_step : kOutsideImage;
    const int right = at.low * x.tap_step;
    const int offset = at.high < from.channels ? at.high * from.area() + down * from.width + right : 0;
    to[i] = {{offset, down, right, 0}};
  }
}

// A thread's share of filling slots whose rows are places of the operand, kDepth a step, from `place` to `end`, of the
// lines in `lines`; zeros past the last.
template <class Slot, int kThreads, class T>
class PlaceGather {
 public:
  __device__ PlaceGather(const ConvImage<T>& from, const ConvAxis& y, const ConvAxis& x,
                         const ConvLine* lines, int /*first line*/, int place, int end)
      : from_(from),
        y_(y),
        x_(x),
        depth_(threadIdx.x % kWords * kRun<T>),
        line_(threadIdx.x / kWords),
        left_(end - place - depth_),
        lines_(lines),
        step_(Slot::kDepth, y.places, x.places) {
#pragma unroll
    for (int e = 0; e < kRun<T>; ++e) at_[e] = Digits(place + depth_ + e, y.places, x.places);
  }
  __device__ void next(T* slot) {
    slot_ = slot;
    int top[kRun<T>], left[kRun<T>];
    int64_t first[kRun<T>];
#pragma unroll
    for (int e = 0; e < kRun<T>; ++e) {
      top[e] = e < left_ ? at_[e].mid * y_.step + y_.origin : kOutsideImage;
      left[e] = at_[e].low * x_.step + x_.origin;
      first[e] = at_[e].high * from_.stride + int64_t{top[e]} * from_.width + left[e];
      at_[e].add(step_, y_.places, x_.places);
    }
    left_ -= Slot::kDepth;
#pragma unroll
    for (int k = 0; k < kPasses; ++k) {
      const auto line = load<4>(lines_[line_ + k * kLineStep].at);
#pragma unroll
      for (int e = 0; e < kRun<T>; ++e) {
        const bool inside =
            static_cast<unsigned>(top[e] + line.at[1]) < static_cast<unsigned>(from_.height) &&
            static_cast<unsigned>(left[e] + line.at[2]) < static_cast<unsigned>(from_.width);
        values_[k].at[e] = inside ? from_.data[first[e] + line.at[0]] : T(0.0f);
      }
    }
  }
  __device__ void done() {
#pragma unroll
    for (int k = 0; k < kPasses; ++k)
      store_shared<kRun<T>>(slot_ + Slot::place(line_ + k * kLineStep, depth_), values_[k]);
  }

 private:
  static constexpr int kWords = Slot::kDepth / kRun<T>, kLineStep = kThreads / kWords;
  static constexpr int kPasses = Slot::kSide / kLineStep;
  static_assert(Slot::along_k && kThreads % kWords == 0 && Slot::kSide % kLineStep == 0);
  ConvImage<T> from_;
  ConvAxis y_, x_;
  int depth_, line_, left_;
  const ConvLine* lines_;
  Digits step_, at_[kRun<T>];
  Pack<T, kRun<T>> values_[kPasses];
  T* slot_ = nullptr;
};

// The same in packs, where LinePacks could be: lines are channels.
template <class Slot, int kThreads, class T>
class PlacePacks {
 public:
  __device__ PlacePacks(const ConvImage<T>& from, const ConvAxis&, const ConvAxis&, const ConvLine*,
                        int first, int place, int end)
      : from_(from),
        depth_(threadIdx.x % kPacks * kPack<T>),
        line_(threadIdx.x / kPacks),
        channel_(first + line_),
        left_(end - place - depth_),
        in_image_((place + depth_) % from.area()) {
    source_ = from.data + (place + depth_) / from.area() * from.stride + int64_t{channel_} * from.area();
  }
  __device__ void next(T* slot) {
    const int area = from_.area();
    const T* source = source_ + in_image_;
#pragma unroll
    for (int k = 0; k < kPasses; ++k, source += kLineStep * int64_t{area})
      cp_async16(slot + Slot::place(line_ + k * kLineStep, depth_), source,
                 left_ > 0 && channel_ + k * kLineStep < from_.channels);
    left_ -= Slot::kDepth;
    for (in_image_ += Slot::kDepth; in_image_ >= area; in_image_ -= area) source_ += from_.stride;
  }
  __device__ void done() {}

 private:
  static constexpr int kPacks = Slot::kDepth / kPack<T>, kLineStep = kThreads / kPacks;
  static constexpr int kPasses = Slot::kSide / kLineStep;
  static_assert(Slot::along_k && kThreads % kPacks == 0 && Slot::kSide % kLineStep == 0);
  ConvImage<T> from_;
  int depth_, line_, channel_, left_, in_image_;
  const T* source_;
};

}  // namespace qfm
