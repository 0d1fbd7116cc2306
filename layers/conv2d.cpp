#include "layers/conv2d.h"

#include "engine/dispatch.h"

namespace qfm {
namespace {

bool valid(const Window& w) {
  return w.size > 0 && w.stride > 0 && w.dilation > 0 && w.pad_begin >= 0 && w.pad_end >= 0;
}

ConvShape shape_of(const Tensor& x, const Tensor& w, const ConvOptions& options) {
  QFM_CHECK(x.rank() == 4 && w.rank() == 4, "conv2d: x is ", x.shape(), ", w is ", w.shape());
  ConvShape s{x.dim(0), x.dim(1), x.dim(2), x.dim(3), w.dim(0), options.groups, options.y, options.x};
  s.y.size = w.dim(2), s.x.size = w.dim(3);
  QFM_CHECK(s.groups > 0 && s.in_channels % s.groups == 0 && s.out_channels % s.groups == 0,
            "conv2d: ", s.groups, " groups of ", s.in_channels, " channels in and ", s.out_channels, " out");
  QFM_CHECK(s.in_channels > 0 && w.dim(1) == s.group_in(), "conv2d: x is ", x.shape(), ", w is ", w.shape(),
            ", ", s.groups, " groups");
  QFM_CHECK(valid(s.y) && valid(s.x),
            "conv2d: a size, stride or dilation below 1 or a padding below 0, w is ", w.shape());
  QFM_CHECK(s.out_height() > 0 && s.out_width() > 0, "conv2d: the kernel of w ", w.shape(),
            " is larger than the padded image of x ", x.shape());
  return s;
}

Op cost(const char* name, const ConvShape& s, const Tensor& like) {
  const int64_t in = s.batch * s.in_channels * s.height * s.width,
                weights = s.out_channels * s.group_in() * s.taps(),
                out = s.batch * s.out_channels * s.out_height() * s.out_width();
  return {name, s.flops(),
          static_cast<double>(in + weights + out) * static_cast<double>(size_of(like.dtype()))};
}

Tensor forward(const ConvShape& s, const Tensor& x, const Tensor& w, const ConvFusion& fusion) {
  const Tensor y = like(x, {s.batch, s.out_channels, s.out_height(), s.out_width()});
  dispatch(cost("conv2d", s, x), x, [&](auto dev, auto t) {
    using T = decltype(t);
    const ConvEpilogue<T> e{ptr_or_null<const acc<T>>(fusion.scale), ptr_or_null<const acc<T>>(fusion.shift),
                            ptr_or_null<const T>(fusion.residual), fusion.activation};
    conv2d_forward<T>(dev, s, ptr<T>(y), ptr<const T>(x), ptr<const T>(w), e);
  });
  return y;
}

Tensor input_gradient(const ConvShape& s, const Tensor& dy, const Tensor& w) {
  const Tensor dx = like(dy, {s.batch, s.in_channels, s.height, s.width});
  dispatch(cost("conv2d.dx", s, dy), dy, [&](auto dev, auto t) {
    using T = decltype(t);
    conv2d_dx<T>(dev, s, ptr<T>(dx), ptr<const T>(dy), ptr<const T>(w));
  });
  return dx;
}

struct ConvGrads {
  Tensor weight, bias;
};
ConvGrads weight_gradients(const ConvShape& s, const Tensor& dy, const Tensor& x, const Shape& w,
                           bool with_bias) {
  const Tensor dw = acc_like(x, w), db = with_bias ? acc_like(x, {s.out_channels}) : Tensor();
  dispatch(cost("conv2d.dw", s, x), x, [&](auto dev, auto t) {
    using T = decltype(t);
    conv2d_dw<T>(dev, s, ptr<acc<T>>(dw), ptr_or_null<acc<T>>(db), ptr<const T>(dy), ptr<const T>(x));
  });
  return {dw, db};
}

}  // namespace

Tensor conv2d_forward(const Tensor& x, const Tensor& w, const ConvOptions& options,
                      const ConvFusion& fusion) {
  const ConvShape s = shape_of(x, w, options);
  const Shape channels{s.out_channels}, y{s.batch, s.out_channels, s.out_height(), s.out_width()};
  QFM_CHECK((fusion.scale.empty() || fusion.scale.shape() == channels) &&
                (fusion.shift.empty() || fusion.shift.shape() == channels),
            "conv2d: w is ", w.shape(), ", scale is ", fusion.scale.shape(), ", shift is ",
            fusion.shift.shape());
  QFM_CHECK(fusion.residual.empty() || fusion.residual.shape() == y, "conv2d: the result is ", y,
            ", residual is ", fusion.residual.shape());
  return forward(s, x, w, fusion);
}

Var conv2d(const Var& x, const Var& w, const Var& b, const ConvOptions& options) {
  const ConvShape s = shape_of(x.value, w.value, options);
  QFM_CHECK(b.value.empty() || b.shape() == Shape{s.out_channels}, "conv2d: w is ", w.shape(), ", bias is ",
            b.shape());
  const Tensor shift = b.value.empty() ? Tensor() : b.value.to(acc_of(x.value.dtype()));
  const Tensor y = forward(s, x.value, w.value, {.shift = shift});
  return record(
      "conv2d", y, {x, w, b},
      [s, xv = x.value, wv = w.value, x_needs = x.needs_grad(), w_needs = w.needs_grad(),
       b_needs = b.needs_grad()](const Tensor& dy) -> Grads {
        ConvGrads d;
        if (w_needs || b_needs) d = weight_gradients(s, dy, xv, wv.shape(), b_needs);
        return {x_needs ? input_gradient(s, dy, wv) : Tensor(), w_needs ? d.weight : Tensor(), d.bias};
      });
}

Conv2d::Conv2d(const Scope& scope, int64_t in, int64_t out, int64_t kernel, const ConvOptions& options,
               Init init, bool with_bias)
    : options(options), has_bias(with_bias) {
  QFM_CHECK(options.groups > 0 && in % options.groups == 0, "conv2d: ", options.groups, " groups of ", in,
            " channels in");
  weight = scope.filter("weight", {out, in / options.groups, kernel, kernel}, init);
  if (with_bias) bias = scope.vector("bias", {out}, constant(0));
}

Var Conv2d::operator()(const Var& x) const {
  return conv2d(x, weight, has_bias ? static_cast<const Var&>(bias) : Var(), options);
}

}  // namespace qfm
