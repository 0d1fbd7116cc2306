// kernels/conv/conv2d.cu, on a GPU or in host-CUDA, against the plain functions in double.
#include <algorithm>
#include <cstring>

#include "engine/cuda/cuda.h"
#include "kernels/conv/conv2d.h"
#include "tests/guarded.h"
#include "tests/kernels/numbers.h"
#include "tests/schedules.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

enum ConvPart { Scale = 1, Shift = 2, ConvResidual = 4, AllConvParts = 8 };

// A convolution with its numbers, and those of a gradient that comes back.
template <class T>
struct ConvNumbers {
  ConvShape s;
  int parts;
  Activation activation;
  std::vector<T> x, w, residual, dy;
  std::vector<acc<T>> scale, shift;
  ConvNumbers(const ConvShape& s, int parts, Activation activation)
      : s(s),
        parts(parts),
        activation(activation),
        x(random<T>("x", 0, s.batch * s.in_channels * s.height * s.width)),
        w(random<T>("w", 1, s.out_channels * s.group_in() * s.taps())),
        residual(random<T>("residual", 2, outputs())),
        dy(random<T>("dy", 3, outputs())),
        scale(random<acc<T>>("scale", 4, s.out_channels)),
        shift(random<acc<T>>("shift", 5, s.out_channels)) {}
  template <class From>
  explicit ConvNumbers(const ConvNumbers<From>& of)
      : s(of.s),
        parts(of.parts),
        activation(of.activation),
        x(converted<T>(of.x)),
        w(converted<T>(of.w)),
        residual(converted<T>(of.residual)),
        dy(converted<T>(of.dy)),
        scale(converted<acc<T>>(of.scale)),
        shift(converted<acc<T>>(of.shift)) {}
  int64_t outputs() const { return s.batch * s.out_channels * s.out_height() * s.out_width(); }
};

template <class T>
struct ConvResults {
  std::vector<T> y, dx;
  std::vector<acc<T>> dw, db;
};
template <class T>
bool same_bits(const ConvResults<T>& a, const ConvResults<T>& b) {
  const auto same = [](const auto& u, const auto& v) {
    return u.size() == v.size() && std::memcmp(u.data(), v.data(), u.size() * sizeof(u[0])) == 0;
  };
  return same(a.y, b.y) && same(a.dx, b.dx) && same(a.dw, b.dw) && same(a.db, b.db);
}

// shift: elements by which all arrays are moved off their alignment.
template <class T>
ConvResults<T> on_cuda(const ConvNumbers<T>& n, size_t shift = 0) {
  const Device d = cuda_device;
  Guarded<T> x(d, n.x, shift), w(d, n.w, shift), residual(d, n.residual, shift), dy(d, n.dy, shift),
      y(d, n.dy.size(), shift), dx(d, n.x.size(), shift);
  Guarded<acc<T>> scale(d, n.scale, shift), shifts(d, n.shift, shift), dw(d, n.w.size(), shift),
      db(d, n.shift.size(), shift);
  ConvEpilogue<T> e;
  if (n.parts & Scale) e.scale = scale.data();
  if (n.parts & Shift) e.shift = shifts.data();
  if (n.parts & ConvResidual) e.residual = residual.data();
  e.activation = n.activation;
  const Cuda cuda{cuda::compute_stream()};
  conv2d_forward_own(cuda, n.s, y.data(), x.data(), w.data(), e);
  conv2d_dx_own(cuda, n.s, dx.data(), dy.data(), w.data());
  conv2d_dw_own(cuda, n.s, dw.data(), n.parts & Shift ? db.data() : nullptr, dy.data(), x.data());
  for (auto* input : {&x, &w, &residual, &dy}) input->values();
  return {y.values(), dx.values(), dw.values(), n.parts & Shift ? db.values() : std::vector<acc<T>>{}};
}

ConvResults<double> plain(const ConvNumbers<double>& n) {
  ConvResults<double> r{unwritten<double>(n.outputs()), unwritten<double>(n.x.size()),
                        unwritten<double>(n.w.size()),
                        unwritten<double>(n.parts & Shift ? n.s.out_channels : 0)};
  const ConvEpilogue<double> e{n.parts & Scale ? n.scale.data() : nullptr,
                               n.parts & Shift ? n.shift.data() : nullptr,
                               n.parts & ConvResidual ? n.residual.data() : nullptr, n.activation};
  const PathScope path(CpuIsa::Plain);
  conv2d_forward(cpu, n.s, r.y.data(), n.x.data(), n.w.data(), e);
  conv2d_dx(cpu, n.s, r.dx.data(), n.dy.data(), n.w.data());
  conv2d_dw(cpu, n.s, r.dw.data(), n.parts & Shift ? r.db.data() : nullptr, n.dy.data(), n.x.data());
  return r;
}

template <class T>
void compare_with_plain(const ConvShape& s, int parts, Activation activation, size_t shift = 0) {
  INFO(name_of(dtype_of<T>), ": ", s.batch, " x ", s.in_channels, " x ", s.height, " x ", s.width, " to ",
       s.out_channels, ", groups ", s.groups, ", window ", s.y.size, " x ", s.x.size, ", stride ", s.y.stride,
       " x ", s.x.stride, ", dilation ", s.y.dilation, " x ", s.x.dilation, ", shift ", shift);
  const ConvNumbers<T> n(s, parts, activation);
  const ConvResults<double> expected = plain(ConvNumbers<double>(n));
  const ConvResults<T> found = on_cuda(n, shift);
  const int64_t places = s.batch * s.out_height() * s.out_width();
  check_close("y", converted<double>(found.y), expected.y, dtype_of<T>, s.group_in() * s.taps());
  check_close("dx", converted<double>(found.dx), expected.dx, dtype_of<T>, s.group_out() * s.taps());
  check_close("dw", converted<double>(found.dw), expected.dw, dtype_of<acc<T>>, places);
  check_close("db", converted<double>(found.db), expected.db, dtype_of<acc<T>>, places);
}
void compare_both(const ConvShape& s, int parts = 0, Activation activation = Activation::None,
                  size_t shift = 0) {
  compare_with_plain<float>(s, parts, activation, shift);
  compare_with_plain<bf16>(s, parts, activation, shift);
}

Window window(int64_t size, int64_t stride = 1, int64_t pad = 0, int64_t dilation = 1) {
  return {size, stride, pad, pad, dilation};
}
ConvShape square(int64_t batch, int64_t in, int64_t height, int64_t width, int64_t out, const Window& w,
                 int64_t groups = 1) {
  return {batch, in, height, width, out, groups, w, w};
}

TEST_CASE("conv2d on CUDA equals the plain functions in double: every window, tails in every dimension") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  compare_both(square(1, 1, 1, 1, 1, window(1)), Shift);
  compare_both(square(2, 3, 7, 5, 5, window(3, 1, 1)), Shift);
  compare_both(square(1, 8, 4, 8, 70, window(1)), Shift);         // whole packs everywhere
  compare_both(square(3, 13, 4, 4, 9, window(1)));                // packs of places, weights of none
  compare_both(square(2, 8, 7, 7, 33, window(1)));                // 49 places: an image ends inside a pack
  compare_both(square(2, 5, 9, 11, 6, window(1, 2)));             // most of dx gets nothing
  compare_both(square(2, 3, 19, 17, 8, window(7, 2, 3)), Shift);  // a stem
  compare_both(square(2, 4, 11, 10, 3, window(3, 3, 1)));         // stride 3
  compare_both(square(1, 4, 13, 12, 6, window(3, 1, 2, 2)));      // dilation
  compare_both(square(1, 4, 17, 15, 6, window(3, 2, 3, 2)));  // stride 2, dilation 2: odd phases get nothing
  compare_both(square(1, 4, 17, 15, 6, window(4, 6, 4, 4)));  // stride 6, dilation 4: every third tap
  compare_both(square(2, 3, 16, 16, 8, window(8, 8)));        // patches
  compare_both(square(1, 2, 5, 5, 4, window(2, 7, 1)));       // strides beyond the image
  compare_both({2, 3, 9, 8, 4, 1, {3, 1, 0, 2, 1}, {2, 2, 1, 0, 1}}, Shift);  // paddings that differ
  compare_both({1, 2, 6, 31, 3, 1, {1, 1, 0, 0, 1}, {5, 3, 2, 2, 2}}, Shift);
  compare_both({1, 2, 6, 9, 3, 1, {5, 1, 6, 7, 1}, {2, 1, 3, 3, 1}});  // places that see padding only
}

TEST_CASE("conv2d on CUDA: groups") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  compare_both(square(2, 6, 7, 6, 9, window(3, 1, 1), 3), Shift);
  compare_both(square(1, 16, 8, 8, 24, window(1), 2), Shift);
  compare_both(square(2, 4, 9, 9, 8, window(3, 2, 1), 4), Shift);  // two channels from each
}

TEST_CASE("conv2d on CUDA: depthwise") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const int64_t size : {3, 5})
    for (const int64_t stride : {1, 2})
      for (const int64_t pad : {int64_t{0}, int64_t{1}, size / 2, size + 1}) {
        compare_both(square(2, 3, 8, 12, 3, window(size, stride, pad), 3), Shift);
        compare_both(square(2, 3, 7, 9, 3, window(size, stride, pad), 3), AllConvParts - 1,
                     Activation::Relu6);
      }
  compare_both(square(1, 5, 7, 6, 5, window(7, 1, 3), 5), Shift);
  compare_both(square(1, 2, 9, 9, 2, window(3, 3, 1), 2), Shift);
  compare_both(square(1, 2, 9, 11, 2, window(3, 1, 2, 2), 2));
  compare_both({2, 3, 5, 9, 3, 3, {2, 1, 0, 1, 1}, {3, 2, 1, 0, 2}}, Shift);
  compare_both(square(3, 2, 40, 64, 2, window(3, 1, 1), 2), Shift, Activation::None, 1);
  compare_both(square(3, 2, 40, 64, 2, window(3, 1, 1), 2), Shift);  // dw in parts
}

TEST_CASE("conv2d on CUDA: large tiles") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const int64_t groups = 132, out = 66 * groups;  // a tile for every SM of the GPU that cuts are made for
  compare_both(square(1, groups, 2, 2, out, window(1, 1, 1), groups), Shift);
  compare_both(square(1, 8 * groups, 2, 4, out, window(1), groups));
  compare_both(square(1, groups, 3, 3, out, window(1), groups), Shift);
}

TEST_CASE("conv2d on CUDA: a weight gradient in parts") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  compare_both({3, 2, 1, 259, 2, 1, {}, {3, 1, 1, 1, 1}}, Shift);
  compare_both(square(3, 4, 16, 16, 4, window(1)), Shift);
  compare_both(square(3, 2, 16, 20, 4, window(3, 1, 1), 2), Shift);
}

TEST_CASE("conv2d on CUDA equals the plain functions in every epilogue") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (int parts = 0; parts < AllConvParts; ++parts) {
    const auto activation = static_cast<Activation>(parts % 4);
    compare_both(square(2, 3, 8, 6, 5, window(3, 1, 1)), parts, activation);
    compare_both(square(2, 3, 7, 7, 5, window(3, 1, 1)), parts, activation);
  }
}

TEST_CASE("conv2d on CUDA serves arrays off their alignment") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const int64_t size : {1, 3})
    compare_both(square(2, 8, 8, 8, 16, window(size, 1, size / 2)), AllConvParts - 1, Activation::Relu, 1);
}

template <class T>
void check_bits(const ConvShape& s) {
  const ConvNumbers<T> n(s, AllConvParts - 1, Activation::Silu);
  const ConvResults<T> first = on_cuda(n);
  for_schedules([&] { CHECK(same_bits(first, on_cuda(n))); });
}

TEST_CASE("conv2d on CUDA gives the same bits every time") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  check_bits<float>(square(2, 9, 20, 19, 13, window(3, 1, 1)));
  check_bits<float>(square(2, 12, 16, 16, 8, window(1)));
  check_bits<bf16>(square(2, 9, 20, 19, 13, window(3, 2, 1)));
  check_bits<bf16>(square(2, 8, 16, 16, 8, window(1)));
  check_bits<bf16>(square(3, 2, 40, 64, 2, window(3, 1, 1), 2));
}

template <class T>
void check_image_alone(const ConvShape& s) {
  const ConvNumbers<T> batch(s, AllConvParts - 1, Activation::Relu);
  ConvNumbers<T> last = batch;
  last.s.batch = 1;
  for (auto* v : {&last.x, &last.residual, &last.dy})
    v->erase(v->begin(), v->end() - static_cast<int64_t>(v->size()) / s.batch);
  const auto all = on_cuda(batch), alone = on_cuda(last);
  const auto ends_with = [](const std::vector<T>& v, const std::vector<T>& end) {
    return std::memcmp(&v[v.size() - end.size()], end.data(), end.size() * sizeof(T)) == 0;
  };
  CHECK(ends_with(all.y, alone.y));
  CHECK(ends_with(all.dx, alone.dx));
}

TEST_CASE("conv2d on CUDA: an image has the same bits alone and in a batch") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  check_image_alone<float>(square(3, 5, 7, 9, 6, window(3, 2, 1)));
  check_image_alone<bf16>(square(3, 5, 7, 9, 6, window(3, 2, 1)));
  check_image_alone<bf16>(
      square(132, 8, 16, 8, 5, window(3, 1, 1)));  // large tiles in the batch, small ones alone
}

}  // namespace
}  // namespace qfm::test
