// Cases of the three primitives: map, reduce, gather.
#include "kernels/cases/case_maker.h"
#include "kernels/gather/gather.h"
#include "kernels/pointwise/map.h"
#include "kernels/reduce/reduce.h"
#include "kernels/reduce/softmax.h"

namespace qfm {
namespace {

constexpr auto kRounding = Equal::Rounding;

// Maps over whole tensors.
template <class F>
void add_map(CaseMaker& make, const char* name, const F& f, int64_t n) {
  make.add({name, {n}}, {make.out("y", n, kRounding), make.in("x", n)}, "map",
           [=]<class T>(auto dev, T, auto y, auto x) {
             map(dev, f, flat_space<1>(n), static_cast<T*>(y), MapInputs<T, 1>{{x}});
           });
}
template <class F>
void add_map2(CaseMaker& make, const std::string& name, const F& f, const char* y_name, const char* a_name,
              const char* b_name, int64_t n) {
  make.add({name, {n}}, {make.out(y_name, n, kRounding), make.in(a_name, n), make.in(b_name, n)}, "map",
           [=]<class T>(auto dev, T, auto y, auto a, auto b) {
             map(dev, f, flat_space<2>(n), static_cast<T*>(y), MapInputs<T, 2>{{a, b}});
           });
}

void add_pointwise(CaseMaker& make) {
  make.group = "pointwise";
  const int64_t b = make.s.batch, t = make.s.tokens, d = make.s.width, n = make.s.patches, area = b * t * d,
                hidden = 4 * area;
  add_map(make, "gelu", fn::Gelu{}, hidden);
  add_map2(make, "gelu.backward", fn::Derivative<fn::Gelu>{}, "dx", "dy", "x", hidden);
  add_map(make, "sigmoid", fn::Sigmoid{}, area);
  add_map2(make, "sigmoid.backward", fn::Derivative<fn::Sigmoid>{}, "dx", "dy", "y", area);
  add_map2(make, "add", fn::Add{}, "y", "x", "z", area);
  add_map(make, "scale", fn::Affine{0.37, 0}, area);
  make.add({"cast", {area}}, {make.acc_out("y", area, Equal::Bits), make.in("x", area)},
           QFM_KERNEL_AS(cast, acc<T>, T), area);
  const auto repeated = [&](const char* name, std::array<int64_t, 3> whole, std::array<int64_t, 3> part, auto f) {
    const auto space = broadcast_space<2>(whole, {whole, part});
    const int64_t all = whole[0] * whole[1] * whole[2];
    make.add({name, {whole.begin(), whole.end()}},
             {make.out("y", all, kRounding), make.in("x", all), make.in("p", part[0] * part[1] * part[2])}, "map",
             [=]<class T>(auto dev, T, auto y, auto x, auto p) {
               map(dev, f, space, static_cast<T*>(y), MapInputs<T, 2>{{x, p}});
             });
  };
  repeated("add a position", {b, t, d}, {1, t, d}, fn::Add{});
  repeated("multiply by a gate", {b, n, d}, {b, 1, d}, fn::Multiply{});
}

void add_reductions(CaseMaker& make) {
  const int64_t b = make.s.batch, t = make.s.tokens, d = make.s.width, n = make.s.patches, rows = b * t,
                area = rows * d;
  const int64_t score_rows = b * make.s.heads * t, scores = score_rows * t;
  make.group = "reduce";
  make.add({"softmax", {score_rows, t}, t}, {make.out("y", scores, kRounding), make.in("x", scores)},
           QFM_KERNEL(softmax_forward), score_rows, t);
  make.add({"softmax.backward", {score_rows, t}, t},
           {make.out("dx", scores, kRounding), make.in("dy", scores), make.in("y", scores)},
           QFM_KERNEL(softmax_backward), score_rows, t);
  const auto sum = [&](const char* name, ReduceShape s, auto out, bool products) {
    const int64_t all = s.outer * s.count * s.inner;
    make.add({name, {s.outer, s.count, s.inner}, s.count}, {out, make.in("x", all), make.in("f", products ? all : 1)},
             "reduce_sum", [=]<class T>(auto dev, T, auto y, auto x, auto f) {
               const T* factor = f;
               if (out.type == dtype_of<T>) reduce_sum<T, T>(dev, s, y, x, products ? factor : nullptr, 3);
               else reduce_sum<T, acc<T>>(dev, s, y, x, products ? factor : nullptr, 1);
             });
  };
  sum("sum of rows", {1, rows, 4 * d}, make.acc_out("y", 4 * d), false);
  sum("sum of rows, rounded", {1, rows, d}, make.out("y", d, kRounding), false);
  sum("sum of products", {b, n, d}, make.acc_out("y", b * d), true);
  sum("mean of tokens", {b, n, d}, make.out("y", b * d, kRounding), false);
  sum("sum along rows", {rows, d, 1}, make.acc_out("y", rows), true);
  sum("mean along rows", {rows, d, 1}, make.out("y", rows, kRounding), false);
  sum("sum of all", {1, area, 1}, make.acc_out("y", 1), false);
  sum("mean of all", {1, area, 1}, make.out("y", 1, kRounding), true);
  for (const ReduceShape s : {ReduceShape{b, t, d}, {rows, d, 1}})
    make.add({s.inner > 1 ? "max of tokens" : "max along rows", {s.outer, s.count, s.inner}, 1},
             {make.out("y", s.outer * s.inner), make.in("x", s.outer * s.count * s.inner)}, "reduce_max",
             [=]<class T>(auto dev, T, auto y, auto x) { reduce_max<T>(dev, s, y, x); });
}

void add_copies(CaseMaker& make) {
  const int64_t b = make.s.batch, t = make.s.tokens, d = make.s.width, n = make.s.patches, rows = b * t,
                area = rows * d, patches = b * n * d;
  make.group = "gather";
  // The patches without the CLS token, and heads brought in front of the tokens.
  CopySpace slice{3, {b, n, d}, {n * d, d, 1}, {t * d, d, 1}};
  make.add({"slice", {b, n, d}, 1, 0, make.bytes(2 * patches)}, {make.out("y", patches), make.in("x", area)},
           "strided_copy", [=]<class T>(auto dev, T, auto y, auto x) {
             const T* from = x;
             strided_copy<T>(dev, slice, y, from + (t - n) * d);
           });
  const int64_t h = make.s.heads, each = d / h;
  CopySpace permute{4, {b, h, t, each}, {t * d, t * each, each, 1}, {t * d, each, d, 1}};
  make.add({"permute", {b, t, h, each}}, {make.out("y", area), make.in("x", area)}, "strided_copy",
           [=]<class T>(auto dev, T, auto y, auto x) { strided_copy<T>(dev, permute, y, x); });
  CopySpace transpose{3, {b, d, t}, {t * d, t, 1}, {t * d, 1, d}};
  make.add({"transpose", {b, t, d}}, {make.out("y", area), make.in("x", area)}, "strided_copy",
           [=]<class T>(auto dev, T, auto y, auto x) { strided_copy<T>(dev, transpose, y, x); });
  // Images to rows of patches: what the patch embedding multiplies.
  const int64_t p = make.s.patch, down = make.s.height / p, across = make.s.image_width / p, line = across * p, plane = down * p * line;
  CopySpace patches_of{6, {b, down, across, 3, p, p}, {}, {3 * plane, p * line, p, plane, line, 1}};
  for (int64_t d = 5, step = 1; d >= 0; step *= patches_of.size[d], --d) patches_of.to[d] = step;
  make.add({"patches", {b, down * across, 3 * p * p}}, {make.out("y", b * 3 * plane), make.in("x", b * 3 * plane)},
           "strided_copy", [=]<class T>(auto dev, T, auto y, auto x) { strided_copy<T>(dev, patches_of, y, x); });
  const auto ids = [&] { return make.numbers<int32_t>("ids", ArrayRole::In, rows, [=](int64_t i) { return i * i % (t + 3); }); };
  make.add({"gather_rows", {rows, d}, 1, 0, make.bytes(2 * area)},
           {make.out("y", area), make.in("table", (t + 3) * d), ids()}, QFM_KERNEL(gather_rows), rows, d);
  make.add({"gather_rows.backward", {rows, d}, rows, 0, make.bytes(area)},
           {make.acc_out("dtable", (t + 3) * d), make.in("dy", area), ids()}, QFM_KERNEL(scatter_add_rows), rows, t + 3, d);
}

}  // namespace

void add_algebra_cases(CaseMaker& make) {
  add_pointwise(make);
  add_reductions(make);
  add_copies(make);
}

}  // namespace qfm
