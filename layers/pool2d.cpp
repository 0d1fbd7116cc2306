#include "layers/pool2d.h"

#include "engine/dispatch.h"

namespace qfm {
namespace {

void check_window(const char* op, const Var& x, const Window& w, int64_t in) {
  QFM_CHECK(w.size > 0 && w.stride > 0 && w.dilation > 0 && w.pad_begin >= 0 && w.pad_end >= 0, op,
            ": sizes, strides and dilations are 1 or more, padding is 0 or more");
  QFM_CHECK(2 * w.pad_begin <= w.span() && 2 * w.pad_end <= w.span(), op, ": padding of ",
            std::max(w.pad_begin, w.pad_end), " is more than half a window of ", w.span());
  QFM_CHECK(w.positions(in) > 0, op, ": x is ", x.shape(), ", smaller with its padding than the window of ",
            w.span());
  for (int64_t i = 0; i < w.positions(in); ++i) {
    bool sees = false;
    for (int64_t tap = 0; tap < w.size && !sees; ++tap) sees = w.at(i, tap) >= 0 && w.at(i, tap) < in;
    QFM_CHECK(sees, op, ": x is ", x.shape(), ", and window ", i, " sees padding only");
  }
}

PoolShape checked(const char* op, const Var& x, const Window& down, const Window& along,
                  bool count_padding = true) {
  QFM_CHECK(x.value.rank() == 4 && x.value.numel() > 0, op, ": x is ", x.shape(),
            ", expected images (B, C, H, W)");
  check_window(op, x, down, x.dim(2));
  check_window(op, x, along, x.dim(3));
  QFM_CHECK(x.dim(2) * x.dim(3) < int64_t{1} << 31, op, ": x is ", x.shape(), ", too large");
  return {x.dim(0) * x.dim(1), x.dim(2), x.dim(3), down, along, count_padding};
}

double bytes(const Tensor& a, const Tensor& b) { return static_cast<double>(a.bytes() + b.bytes()); }

}  // namespace

Var max_pool2d(const Var& x, const Window& down, const Window& along) {
  const PoolShape shape = checked("max_pool2d", x, down, along);
  const Tensor y = like(x.value, {x.dim(0), x.dim(1), shape.out_height(), shape.out_width()});
  const Tensor at = needs_graph({&x}) ? Tensor(y.shape(), DType::I32, y.device()) : Tensor();
  dispatch({"max_pool2d", 0, bytes(x.value, y)}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    max_pool_forward<T>(dev, shape, ptr<T>(y), ptr_or_null<int32_t>(at), ptr<const T>(x.value));
  });
  return record("max_pool2d", y, {x}, [shape, at, from = x.shape()](const Tensor& dy) -> Grads {
    const Tensor dx = like(dy, from);
    dispatch({"max_pool2d.backward", 0, bytes(dx, dy)}, dy, [&](auto dev, auto t) {
      using T = decltype(t);
      max_pool_backward<T>(dev, shape, ptr<T>(dx), ptr<const T>(dy), ptr<const int32_t>(at));
    });
    return {dx};
  });
}

Var mean_pool2d(const Var& x, const Window& down, const Window& along, bool count_padding) {
  const PoolShape shape = checked("mean_pool2d", x, down, along, count_padding);
  const Tensor y = like(x.value, {x.dim(0), x.dim(1), shape.out_height(), shape.out_width()});
  dispatch({"mean_pool2d", 0, bytes(x.value, y)}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    mean_pool_forward<T>(dev, shape, ptr<T>(y), ptr<const T>(x.value));
  });
  return record("mean_pool2d", y, {x}, [shape, from = x.shape()](const Tensor& dy) -> Grads {
    const Tensor dx = like(dy, from);
    dispatch({"mean_pool2d.backward", 0, bytes(dx, dy)}, dy, [&](auto dev, auto t) {
      using T = decltype(t);
      mean_pool_backward<T>(dev, shape, ptr<T>(dx), ptr<const T>(dy));
    });
    return {dx};
  });
}

Var adaptive_mean_pool2d(const Var& x, int64_t out_height, int64_t out_width) {
  QFM_CHECK(x.value.rank() == 4 && x.value.numel() > 0 && out_height > 0 && out_width > 0,
            "adaptive_mean_pool2d: x is ", x.shape(), ", the result ", out_height, " x ", out_width);
  const AdaptivePoolShape shape{x.dim(0) * x.dim(1), x.dim(2), x.dim(3), out_height, out_width};
  const Tensor y = like(x.value, {x.dim(0), x.dim(1), out_height, out_width});
  dispatch({"adaptive_mean_pool2d", 0, bytes(x.value, y)}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    adaptive_pool_forward<T>(dev, shape, ptr<T>(y), ptr<const T>(x.value));
  });
  return record("adaptive_mean_pool2d", y, {x}, [shape, from = x.shape()](const Tensor& dy) -> Grads {
    const Tensor dx = like(dy, from);
    dispatch({"adaptive_mean_pool2d.backward", 0, bytes(dx, dy)}, dy, [&](auto dev, auto t) {
      using T = decltype(t);
      adaptive_pool_backward<T>(dev, shape, ptr<T>(dx), ptr<const T>(dy));
    });
    return {dx};
  });
}

}  // namespace qfm
