// Cases of convolutions, in three directions each.
#include "kernels/cases/case_maker.h"
#include "kernels/conv/conv2d.h"

namespace qfm {
namespace {

void add_convolution(CaseMaker& make, const std::string& name, const ConvShape& s) {
  const int64_t in = s.batch * s.in_channels * s.height * s.width, places = s.out_height() * s.out_width(),
                out = s.batch * s.out_channels * places, weights = s.out_channels * s.group_in() * s.taps();
  const std::vector<int64_t> dims{s.batch, s.in_channels, s.height, s.width, s.out_channels};
  const double bytes = make.bytes(in + out + weights);
  make.add({name, dims, s.group_in() * s.taps(), s.flops(), bytes + make.acc_bytes(s.out_channels)},
           {make.out("y", out, Equal::Rounding), make.in("x", in), make.in("w", weights),
            make.acc_in("shift", s.out_channels)},
           "conv2d_forward", [=]<class T>(auto dev, T, auto y, auto x, auto w, auto shift) {
             conv2d_forward<T>(dev, s, y, x, w, {.shift = shift, .activation = Activation::Relu});
           });
  make.add({name + ".dx", dims, s.group_out() * s.taps(), s.flops(), bytes},
           {make.out("dx", in, Equal::Rounding), make.in("dy", out), make.in("w", weights)}, "conv2d_dx",
           [=]<class T>(auto dev, T, auto dx, auto dy, auto w) { conv2d_dx<T>(dev, s, dx, dy, w); });
  make.add(
      {name + ".dw", dims, s.batch * places, s.flops(), make.bytes(in + out) + make.acc_bytes(weights)},
      {make.acc_out("dw", weights), make.acc_out("db", s.out_channels), make.in("dy", out), make.in("x", in)},
      "conv2d_dw",
      [=]<class T>(auto dev, T, auto dw, auto db, auto dy, auto x) { conv2d_dw<T>(dev, s, dw, db, dy, x); });
}

}  // namespace

void add_conv_cases(CaseMaker& make) {
  make.group = "conv";
  for (const NamedConv& conv : make.s.convolutions) add_convolution(make, conv.name, conv.shape);
}

}  // namespace qfm
