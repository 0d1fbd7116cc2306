// Cases of bilinear resize and sampling, in all directions.
#include <cmath>

#include "kernels/cases/case_maker.h"
#include "kernels/sampling/resize_bilinear.h"
#include "kernels/sampling/sample_bilinear.h"

namespace qfm {
namespace {

void add_resize(CaseMaker& make, const NamedSampling& n) {
  const ResizeShape s{n.batch * n.channels, n.height, n.width, n.out_height, n.out_width};
  const int64_t in = s.planes * s.height * s.width, out = s.planes * s.out_height * s.out_width;
  const std::vector<int64_t> dims{n.batch, n.channels, n.height, n.width, n.out_height, n.out_width};
  const int64_t seen =
      s.height * s.width == 0 ? 1 : 4 * (1 + s.out_height / s.height) * (1 + s.out_width / s.width);
  make.add({"resize." + n.name, dims, 4, 0, make.bytes(in + out)},
           {make.out("y", out, Equal::Rounding), make.in("x", in)}, "resize_bilinear_forward",
           [=]<class T>(auto dev, T, auto y, auto x) { resize_bilinear_forward<T>(dev, s, y, x); });
  make.add({"resize." + n.name + ".dx", dims, seen, 0, make.bytes(in + out)},
           {make.out("dx", in, Equal::Rounding), make.in("dy", out)}, "resize_bilinear_backward",
           [=]<class T>(auto dev, T, auto dx, auto dy) { resize_bilinear_backward<T>(dev, s, dx, dy); });
}

// Places all over the image in their order, each moved by up to two elements, as an estimated flow moves them; some lie
// a little outside.
double coordinate(const NamedSampling& n, int64_t i) {
  i %= 2 * n.out_height * n.out_width;  // the same in every image
  const int64_t p = i / 2;
  const int64_t at = i % 2 ? p / n.out_width : p % n.out_width, count = i % 2 ? n.out_height : n.out_width;
  const double move = 2 * std::sin(static_cast<double>(i) * 12.9898);
  return (2 * static_cast<double>(at) + 1) / static_cast<double>(count) - 1 +
         2 * move / static_cast<double>(i % 2 ? n.height : n.width);
}

template <class A>
void add_sample(CaseMaker& make, const NamedSampling& n) {
  const SampleShape s{
      n.batch,      n.channels, n.height, n.width, n.out_height * n.out_width, SamplePadding::Zeros,
      n.height == 1};
  const int64_t in = s.batch * s.channels * s.plane(), out = s.batch * s.channels * s.places,
                coordinates = s.batch * s.places * 2;
  const std::vector<int64_t> dims{n.batch, n.channels, n.height, n.width, n.out_height, n.out_width};
  const double moved = make.bytes(in + out) + make.acc_bytes(coordinates);
  const auto grid =
      CaseMaker::numbers<A>("grid", ArrayRole::In, coordinates, [n](int64_t i) { return coordinate(n, i); });
  make.add(
      {"sample." + n.name, dims, 4, 0, moved}, {make.out("y", out, Equal::Rounding), make.in("x", in), grid},
      "sample_bilinear_forward",
      [=]<class T>(auto dev, T, auto y, auto x, auto at) { sample_bilinear_forward<T>(dev, s, y, x, at); });
  make.add(
      {"sample." + n.name + ".dx", dims, 4 + s.places, 0, moved},
      {make.out("dx", in, Equal::Rounding), make.in("dy", out), grid}, "sample_bilinear_dx",
      [=]<class T>(auto dev, T, auto dx, auto dy, auto at) { sample_bilinear_dx<T>(dev, s, dx, dy, at); });
  make.add({"sample." + n.name + ".dgrid", dims, 4 * s.channels, 0, moved + make.acc_bytes(coordinates)},
           {make.acc_out("dgrid", coordinates), make.in("dy", out), make.in("x", in), grid},
           "sample_bilinear_dgrid", [=]<class T>(auto dev, T, auto dgrid, auto dy, auto x, auto at) {
             sample_bilinear_dgrid<T>(dev, s, dgrid, dy, x, at);
           });
}

}  // namespace

void add_sampling_cases(CaseMaker& make) {
  make.group = "sampling";
  for (const NamedSampling& n : make.s.samplings) {
    add_resize(make, n);
    if (make.type() == DType::F64) add_sample<double>(make, n);
    else add_sample<float>(make, n);
  }
}

}  // namespace qfm
