// Convolution on CUDA, by implicit matrix products; the contract is in conv2d.h. This file chooses the tile
// and the order of memory; what an operand of images is stands in conv_gather.cuh, the products in
// conv_product.cuh (forward, dx) and conv_dw.cuh, what multiplies in conv_core.cuh.
// Depthwise convolutions have kernels of their own: conv_depthwise.cuh.
//
// Maths, for each group, with lines (c, u, v) and places (b, i, j):
//   y[o, place]  = epilogue(sum over lines of w[o, line] X[line, place])
//                  X[line, place] = x[b, c, y.at(i, u), x.at(j, v)]
//   dx[c, place] = sum over lines (o, u, v) of w[o, c, u, v] dy[b, o, ...]: stride x stride products with the taps that
//                  meet a phase of the image's places, which together do the multiplications of the forward
//   dw[o, line]  = sum over places of dy[o, place] X[line, place], places cut in parts that are added in order
// X is gathered on its way to shared memory and never written. The weights come in packs of 16 bytes: for dx,
// and where the forward's rows are not whole packs, a kernel puts them in order first (2 bytes of w twice
// through memory).
//
// Sums are chains along lines in the order of w, whatever the tile: bits do not depend on the batch.
//
// Cost: 2 flops for each multiply-add; reads the image, the weights and the epilogue's operands, writes the
// result. ResNet-50 at 64 images in BF16, floor = the longer of memory at 3.0 TB/s and products at 800
// TFLOP/s (an H100's rates); a block computes 128 x 128, with 64 channels 64 x 128:
//                          GFLOP    MB   floor us   tiles of the forward   elements gathered in
//   7 x 7 / 2    3 -> 64    15.1   122     41       6272                   2 bytes
//   1 x 1       64 -> 256    6.6   128     43       2 x 1568               packs of 16 bytes
//   3 x 3       64 -> 64    14.8    51     19       1568                   2 bytes
//   3 x 3 / 2  128 -> 128   14.8    64     21       392                    2 bytes
//   3 x 3      128 -> 128   14.8    26     19       392                    2 bytes
//   1 x 1     1024 -> 256    6.6    33     11       2 x 98                 2 bytes (196 places)
//   3 x 3      256 -> 256   14.8    14     19       2 x 98                 2 bytes
//   3 x 3      512 -> 512   14.8    11     19       4 x 25                 2 bytes
// dx and dw have the same FLOPs and bytes. An element that is gathered costs about 8 instructions of a
// thread; in a step of 32 lines a warp gathers 16 for each thread and makes 32 mma: 128 cycles to issue beside
// 256 in which an A100's tensor cores multiply, and 128 an H100's. A small batch leaves SMs idle at 7 x 7 and
// 14 x 14: the lines of a forward are not cut, so that bits keep. None of this has been timed on a GPU yet.
//
// Registers, shared memory and blocks an SM of each tile: code_budget.json.
#include "engine/base/error.h"
#include "engine/memory/memory.h"
#include "kernels/conv/conv2d.h"
#include "kernels/conv/conv2d_cudnn.h"
#include "kernels/conv/conv_depthwise.cuh"
#include "kernels/conv/conv_dw.cuh"
#include "kernels/conv/conv_product.cuh"

namespace qfm {
namespace {

// Wide: for 64 channels and fewer. A weight gradient holds more besides its sums, and takes OfDw and Small.
template <class T>
struct Tiles;
template <>
struct Tiles<float> {
  using Large = F32Tile<128, 64, 8, 2>;
  using Wide = F32Tile<64, 64, 8, 4>;
  using Small = F32Tile<32, 32, 4, 8>;
  using OfDw = Large;
};
template <>
struct Tiles<bf16> {
  using Large = MmaTile<128, 128, 64, 32, 2>;
  using Wide = MmaTile<64, 128, 32, 32, 2>;
  using Small = MmaTile<64, 64, 32, 32, 4>;
  using OfDw = MmaTile<128, 64, 32, 32, 2>;
};

int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool is_point(const ConvShape& s) {
  const auto one = [](const Window& w) {
    return w.size == 1 && w.stride == 1 && w.pad_begin == 0 && w.pad_end == 0;
  };
  return one(s.y) && one(s.x);
}
template <int n, class T>
bool aligned(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % (n * sizeof(T)) == 0;
}
// Whether channels of `plane` elements are whole packs in memory.
template <class T>
bool planes_in_packs(int64_t plane, const T* images) {
  return plane % kPack<T> == 0 && aligned<kPack<T>>(images);
}

// What kernels count in an int; a window's step over an image must not come near its end.
void check_sizes(const ConvShape& s) {
  constexpr int64_t kMost = int64_t{1} << 31, kFar = int64_t{1} << 29;
  const int64_t places = std::max(s.height * s.width, s.out_height() * s.out_width());
  QFM_CHECK(places > 0 && s.batch * places < kMost - 4096 &&
                std::max(s.in_channels, s.out_channels) * places < kMost &&
                s.in_channels * s.taps() < kMost - 4096 && s.out_channels * s.taps() < kMost - 4096,
            "conv2d: ", s.batch, " images of ", s.in_channels, " x ", s.height, " x ", s.width, " to ",
            s.out_channels, " x ", s.out_height(), " x ", s.out_width(), " are out of range");
  for (const Window& w : {s.y, s.x})
    QFM_CHECK(
        w.span() < kFar && w.stride < kFar && std::abs(w.pad_begin) < kFar && std::abs(w.pad_end) < kFar,
        "conv2d: a window of ", w.size, " x ", w.dilation, ", stride ", w.stride, " is out of range");
  const int64_t phases = std::min(s.y.stride, s.height) * std::min(s.x.stride, s.width);
  QFM_CHECK(s.depthwise() || (s.groups <= 65535 && phases <= 65535), "conv2d: ", s.groups,
            " groups, strides of ", s.y.stride, " x ", s.x.stride, " are out of range");
}

template <class Tile, class T>
void start_product(Cuda cuda, const ConvOutput<T>& to, const ConvProblem<T>& p, const ConvWeights<T>& w,
                   int groups, bool in_packs, int64_t most_places) {
  using Core = ConvCore<T, Tile, false>;
  const dim3 grid(static_cast<unsigned>(up(w.rows, Tile::kM) * up(most_places, Tile::kN)),
                  static_cast<unsigned>(groups), static_cast<unsigned>(p.phases_y() * p.phases_x()));
  const auto start = [&]<bool packs>(std::bool_constant<packs>) {
    launch<conv_product_kernel<Core, packs>>(grid, Tile::kThreads, kConvSharedBytes<Core>, cuda.stream, to, p,
                                             w, p.phases_x());
  };
  in_packs ? start(std::true_type{}) : start(std::false_type{});
}

// Large tiles where they give every SM a block.
template <class T>
void product(Cuda cuda, const ConvOutput<T>& to, const ConvProblem<T>& p, const T* w, const ConvPacking& of,
             int groups, bool in_packs) {
  using Large = typename Tiles<T>::Large;
  using Wide = typename Tiles<T>::Wide;
  using Small = typename Tiles<T>::Small;
  const int phases = p.phases_y() * p.phases_x(), rows = p.transposed ? of.in : of.out;
  // Phase 0 has the most places, and no phase more taps than this.
  const ConvAxis y = p.axis_y(0), x = p.axis_x(0);
  const int64_t places = int64_t{p.batch} * y.places * x.places;
  const auto most_taps = [&](int taps, const ConvAxis& axis) {
    return p.transposed ? up(taps, axis.tap_every) : taps;
  };
  const int64_t lines = p.from.channels * most_taps(of.taps_y, y) * most_taps(of.taps_x, x);
  const bool as_they_are = !p.transposed && lines % kPack<T> == 0 && aligned<kPack<T>>(w);
  ConvWeights<T> weights{w, rows, up(lines, kPack<T>) * kPack<T>};
  const DeviceScratch scratch(as_they_are ? 0 : sizeof(T) * phases * groups * rows * weights.ld);
  if (!as_they_are) {
    weights.data = scratch.as<T>();
    const dim3 grid(static_cast<unsigned>(up(rows * weights.ld, 256)), static_cast<unsigned>(groups),
                    static_cast<unsigned>(phases));
    launch<conv_pack_kernel<T>>(grid, 256, 0, cuda.stream, scratch.as<T>(), w, p, of, rows, weights.ld,
                                p.phases_x());
  }
  const auto fills = [&]<class Tile>(Tile) {
    return up(rows, Tile::kM) * up(places, Tile::kN) * groups * phases >= kGemmSms;
  };
  if (rows > Wide::kM && fills(Large{})) start_product<Large>(cuda, to, p, weights, groups, in_packs, places);
  else if (rows <= Wide::kM && fills(Wide{}))
    start_product<Wide>(cuda, to, p, weights, groups, in_packs, places);
  else start_product<Small>(cuda, to, p, weights, groups, in_packs, places);
}

template <class T>
ConvImage<T> image_of(const T* data, int64_t channels, int64_t groups, int64_t height, int64_t width) {
  return {data, channels * height * width, static_cast<int>(channels / groups), static_cast<int>(height),
          static_cast<int>(width)};
}
ConvPacking packing_of(const ConvShape& s) {
  return {static_cast<int>(s.group_out()), static_cast<int>(s.group_in()), static_cast<int>(s.y.size),
          static_cast<int>(s.x.size)};
}

template <class T>
ConvOutput<T> output(T* y, int64_t channels, int64_t height, int64_t width, bool in_order,
                     const ConvEpilogue<T>& e = {}) {
  const int64_t plane = height * width;
  const bool in_packs = in_order && plane % kEpiloguePack == 0 && aligned<kEpiloguePack>(y) &&
                        aligned<kEpiloguePack>(e.residual);
  return {y, e, channels * plane, static_cast<int>(height), static_cast<int>(width), in_packs};
}

template <class Tile, class T>
void start_dw(Cuda cuda, const ConvShape& s, float* dw, float* db, const T* dy, const T* x) {
  using Core = ConvCore<T, Tile, true>;
  const ConvCut cut = conv_dw_cut<Tile>(s);
  const int64_t lines = s.group_in() * s.taps(), plane = s.out_height() * s.out_width(),
                size = s.out_channels * lines;
  const auto dys = image_of(dy, s.out_channels, s.groups, s.out_height(), s.out_width());
  const auto xs = image_of(x, s.in_channels, s.groups, s.height, s.width);
  const ConvAxis axis_y = forward_axis(s.y, dys.height), axis_x = forward_axis(s.x, dys.width);
  const DeviceScratch scratch(cut.parts > 1 ? sizeof(float) * cut.parts * (size + s.out_channels) : 0);
  float* to = cut.parts > 1 ? scratch.as<float>() : dw;
  float* to_db = cut.parts > 1 && db ? to + cut.parts * size : db;
  const GemmOutput<float> output = gemm_output<float>({s.group_out(), lines, 0}, to, {});
  const dim3 grid(static_cast<unsigned>(cut.tiles_m * cut.tiles_n), static_cast<unsigned>(s.groups),
                  static_cast<unsigned>(cut.parts));
  const auto start = [&]<bool dy_packs, bool x_packs>(std::bool_constant<dy_packs>,
                                                      std::bool_constant<x_packs>) {
    launch<conv_dw_kernel<Core, dy_packs, x_packs>>(grid, Tile::kThreads, kConvSharedBytes<Core>, cuda.stream,
                                                    output, to_db, dys, xs, axis_y, axis_x,
                                                    static_cast<int>(s.batch * plane), cut);
  };
  const bool dy_packs = planes_in_packs(plane, dy);
  if (dy_packs && is_point(s) && planes_in_packs(plane, x)) start(std::true_type{}, std::true_type{});
  else if (dy_packs) start(std::true_type{}, std::false_type{});
  else start(std::false_type{}, std::false_type{});
  if (cut.parts > 1)
    gemm_add_parts(cuda, gemm_output<float>({s.out_channels, lines, 0}, dw, {}), to, db, to_db, cut.parts);
}

// Reads planes of height x width, writes planes of out_height x out_width under these windows.
DepthwiseShape depthwise_shape(const ConvShape& s, int64_t height, int64_t width, int64_t out_height,
                               int64_t out_width) {
  const auto of = [](int64_t v) { return static_cast<int>(v); };
  return {of(s.batch),    of(s.in_channels),       of(height),        of(width),        of(out_height),
          of(out_width),  of(up(out_width, kOwn)), of(s.y.size),      of(s.x.size),     of(s.y.stride),
          of(s.x.stride), of(s.y.pad_begin),       of(s.x.pad_begin), of(s.y.dilation), of(s.x.dilation)};
}
// from: what is read in windows; to: what is read or written a place at a time.
template <class T>
void find_packs(DepthwiseShape& s, const T* from, const T* to) {
  s.out_packs = s.out_width % kOwn == 0 && aligned<kOwn>(to);
  s.same_packs =
      s.width % kOwn == 0 && s.out_width == s.width && 2 * s.pad_x == s.taps_x - 1 && aligned<kOwn>(from);
}

// run(Lanes<size>, Lanes<stride>) of a window that kernels are compiled for, else of 0 and 0.
template <class Run>
void with_window(const DepthwiseShape& s, Run&& run) {
  const bool square =
      s.taps_y == s.taps_x && s.stride_y == s.stride_x && s.dilation_y == 1 && s.dilation_x == 1;
  const auto is = [&](int size, int stride) { return square && s.taps_x == size && s.stride_x == stride; };
  if (is(3, 1)) run(Lanes<3>{}, Lanes<1>{});
  else if (is(5, 1)) run(Lanes<5>{}, Lanes<1>{});
  else if (is(3, 2)) run(Lanes<3>{}, Lanes<2>{});
  else if (is(5, 2)) run(Lanes<5>{}, Lanes<2>{});
  else run(Lanes<0>{}, Lanes<0>{});
}

dim3 depthwise_grid(const DepthwiseShape& s) {
  return dim3(static_cast<unsigned>(up(int64_t{s.channels} * s.out_height * s.packs, kThreads)),
              grid_size(s.batch));
}

template <class T>
void depthwise_forward(Cuda cuda, const ConvShape& s, const ConvOutput<T>& to, const T* x, const T* w) {
  DepthwiseShape d = depthwise_shape(s, s.height, s.width, s.out_height(), s.out_width());
  find_packs<T>(d, x, to.y);
  with_window(d, [&]<int size, int stride>(Lanes<size>, Lanes<stride>) {
    launch<depthwise_kernel<T, size, stride>>(depthwise_grid(d), kThreads, 0, cuda.stream, to, x, w, d);
  });
}

template <class T>
void depthwise_dx(Cuda cuda, const ConvShape& s, const ConvOutput<T>& to, const T* dy, const T* w) {
  DepthwiseShape d = depthwise_shape(s, s.out_height(), s.out_width(), s.height, s.width);
  if (s.y.stride == 1 && s.x.stride == 1) {
    d.turned = true;
    d.pad_y = static_cast<int>(s.y.span() - 1 - s.y.pad_begin);
    d.pad_x = static_cast<int>(s.x.span() - 1 - s.x.pad_begin);
    find_packs<T>(d, dy, to.y);
    return with_window(d, [&]<int size, int stride>(Lanes<size>, Lanes<stride>) {
      if constexpr (stride < 2)
        launch<depthwise_kernel<T, size, stride>>(depthwise_grid(d), kThreads, 0, cuda.stream, to, dy, w, d);
    });
  }
  find_packs<T>(d, dy, to.y);
  with_window(d, [&]<int size, int stride>(Lanes<size>, Lanes<stride>) {
    if constexpr (stride != 1)
      launch<depthwise_dx_kernel<T, size>>(depthwise_grid(d), kThreads, 0, cuda.stream, to, dy, w, d);
  });
}

// Blocks for four of each SM, none with less than a pack for each thread.
template <class T>
void depthwise_dw(Cuda cuda, const ConvShape& s, float* dw, float* db, const T* dy, const T* x) {
  DepthwiseShape d = depthwise_shape(s, s.height, s.width, s.out_height(), s.out_width());
  find_packs<T>(d, x, dy);
  const int64_t packs = s.batch * d.out_height * d.packs, weights = s.out_channels * s.taps();
  const int64_t wanted = std::max<int64_t>(1, std::min(4 * kGemmSms / s.out_channels, packs / kThreads));
  const int64_t length = std::max<int64_t>(1, up(packs, wanted)),
                parts = std::max<int64_t>(1, up(packs, length));
  const DeviceScratch scratch(parts > 1 ? sizeof(float) * parts * (weights + s.out_channels) : 0);
  float* to = parts > 1 ? scratch.as<float>() : dw;
  float* to_db = parts > 1 && db ? to + parts * weights : db;
  with_window(d, [&]<int size, int stride>(Lanes<size>, Lanes<stride>) {
    const dim3 grid(static_cast<unsigned>(s.out_channels), static_cast<unsigned>(parts),
                    size > 0 ? 1 : static_cast<unsigned>(up(s.taps(), kTapsAtOnce)));
    launch<depthwise_dw_kernel<T, size, stride>>(grid, kThreads, 0, cuda.stream, to, to_db, dy, x, d, length);
  });
  if (parts == 1) return;
  add_slots<1>(cuda, {{dw}}, to, parts, weights);
  if (db) add_slots<1>(cuda, {{db}}, to_db, parts, s.out_channels);
}

}  // namespace

template <class T>
void conv2d_forward_own(Cuda cuda, const ConvShape& s, T* y, const T* x, const T* w,
                        const ConvEpilogue<T>& e) {
  check_sizes(s);
  const ConvOutput<T> to = output(y, s.out_channels, s.out_height(), s.out_width(), true, e);
  if (s.depthwise()) return depthwise_forward(cuda, s, to, x, w);
  const ConvProblem<T> p{image_of(x, s.in_channels, s.groups, s.height, s.width),
                         s.y,
                         s.x,
                         static_cast<int>(s.batch),
                         static_cast<int>(s.out_height()),
                         static_cast<int>(s.out_width()),
                         false};
  product(cuda, to, p, w, packing_of(s), static_cast<int>(s.groups),
          is_point(s) && planes_in_packs(s.height * s.width, x));
}

template <class T>
void conv2d_dx_own(Cuda cuda, const ConvShape& s, T* dx, const T* dy, const T* w) {
  check_sizes(s);
  if (s.depthwise()) return depthwise_dx(cuda, s, output(dx, s.in_channels, s.height, s.width, true), dy, w);
  const ConvProblem<T> p{image_of(dy, s.out_channels, s.groups, s.out_height(), s.out_width()),
                         s.y,
                         s.x,
                         static_cast<int>(s.batch),
                         static_cast<int>(s.height),
                         static_cast<int>(s.width),
                         true};
  product(cuda, output(dx, s.in_channels, s.height, s.width, p.phases_y() * p.phases_x() == 1), p, w,
          packing_of(s), static_cast<int>(s.groups), is_point(s) && planes_in_packs(s.height * s.width, dy));
}

template <class T>
void conv2d_dw_own(Cuda cuda, const ConvShape& s, acc<T>* dw, acc<T>* db, const T* dy, const T* x) {
  check_sizes(s);
  if (s.depthwise()) return depthwise_dw(cuda, s, dw, db, dy, x);
  using Large = typename Tiles<T>::OfDw;
  const ConvCut cut = conv_dw_cut<Large>(s);
  const bool fills = cut.tiles_m * cut.tiles_n * cut.parts * s.groups >= kGemmSms;
  if (fills && s.group_out() > 64) start_dw<Large>(cuda, s, dw, db, dy, x);
  else start_dw<typename Tiles<T>::Small>(cuda, s, dw, db, dy, x);
}

template <class T>
void conv2d_forward(Cuda cuda, const ConvShape& s, T* y, const T* x, const T* w, const ConvEpilogue<T>& e) {
  if (!cudnn::conv2d_forward(cuda, s, y, x, w, e)) conv2d_forward_own(cuda, s, y, x, w, e);
}
template <class T>
void conv2d_dx(Cuda cuda, const ConvShape& s, T* dx, const T* dy, const T* w) {
  if (!cudnn::conv2d_dx(cuda, s, dx, dy, w)) conv2d_dx_own(cuda, s, dx, dy, w);
}
template <class T>
void conv2d_dw(Cuda cuda, const ConvShape& s, acc<T>* dw, acc<T>* db, const T* dy, const T* x) {
  if (!cudnn::conv2d_dw<T>(cuda, s, dw, db, dy, x)) conv2d_dw_own(cuda, s, dw, db, dy, x);
}

#define QFM_INSTANTIATE(T)                                                                                  \
  template void conv2d_forward_own(Cuda, const ConvShape&, T*, const T*, const T*, const ConvEpilogue<T>&); \
  template void conv2d_dx_own(Cuda, const ConvShape&, T*, const T*, const T*);                              \
  template void conv2d_dw_own<T>(Cuda, const ConvShape&, acc<T>*, acc<T>*, const T*, const T*);             \
  template void conv2d_forward(Cuda, const ConvShape&, T*, const T*, const T*, const ConvEpilogue<T>&);     \
  template void conv2d_dx(Cuda, const ConvShape&, T*, const T*, const T*);                                  \
  template void conv2d_dw<T>(Cuda, const ConvShape&, acc<T>*, acc<T>*, const T*, const T*);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm
