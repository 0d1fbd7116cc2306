#include "layers/sampling.h"

#include <cmath>

#include "engine/dispatch.h"
#include "kernels/sampling/resize_bilinear.h"

namespace qfm {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 30;  // of a plane

void check_image(const char* op, const Shape& x) {
  QFM_CHECK(x.rank() == 4 && x[2] > 0 && x[3] > 0 && x[2] < kMostElements / x[3], op, ": x is ", x,
            ", wanted (B, C, H, W)");
}

template <class A>
void check_coordinates(const Tensor& grid) {
  const auto v = grid.span<const A>();
  bool any = false;
  for (const A c : v) any |= std::isnan(c);
  if (!any) return;
  const auto per_image = static_cast<size_t>(grid.numel() / grid.dim(0));
  for (size_t i = 0; i < v.size(); ++i)
    QFM_CHECK(!std::isnan(v[i]), "sample_bilinear: coordinate ", i % per_image / 2, " of image ",
              i / per_image, " is NaN");
}

}  // namespace

Var resize_bilinear(const Var& x, int64_t height, int64_t width, bool align_corners) {
  check_image("resize_bilinear", x.shape());
  QFM_CHECK(height > 0 && width > 0 && height < kMostElements / width, "resize_bilinear: to ", height, " x ",
            width);
  const ResizeShape s{x.dim(0) * x.dim(1), x.dim(2), x.dim(3), height, width, align_corners};
  const Tensor y = like(x.value, {x.dim(0), x.dim(1), height, width});
  const auto bytes = static_cast<double>(x.value.bytes() + y.bytes());
  dispatch({"resize_bilinear", 0, bytes}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    resize_bilinear_forward<T>(dev, s, ptr<T>(y), ptr<const T>(x.value));
  });
  return record("resize_bilinear", y, {x}, [s, bytes, shape = x.shape()](const Tensor& dy) -> Grads {
    const Tensor dx = like(dy, shape);
    dispatch({"resize_bilinear.backward", 0, bytes}, dy, [&](auto dev, auto t) {
      using T = decltype(t);
      resize_bilinear_backward<T>(dev, s, ptr<T>(dx), ptr<const T>(dy));
    });
    return {dx};
  });
}

Var sample_bilinear(const Var& x, const Var& grid, SamplePadding padding, bool align_corners) {
  check_image("sample_bilinear", x.shape());
  const Shape& g = grid.shape();
  QFM_CHECK(g.rank() == 4 && g[0] == x.dim(0) && g[3] == 2, "sample_bilinear: x is ", x.shape(),
            ", the grid is ", g, ", wanted (", x.dim(0), ", h, w, 2)");
  QFM_CHECK(grid.value.dtype() == acc_of(x.value.dtype()), "sample_bilinear: x is ", name_of(x.value.dtype()),
            ", the grid is ", name_of(grid.value.dtype()), ", wanted ", name_of(acc_of(x.value.dtype())));
  const SampleShape s{x.dim(0), x.dim(1), x.dim(2), x.dim(3), g[1] * g[2], padding, align_corners};
  const Tensor y = like(x.value, {x.dim(0), x.dim(1), g[1], g[2]});
  const auto bytes = static_cast<double>(x.value.bytes() + y.bytes() + grid.value.bytes());
  dispatch({"sample_bilinear", 0, bytes}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    if (x.value.device() == cpu_device) check_coordinates<acc<T>>(grid.value);
    sample_bilinear_forward<T>(dev, s, ptr<T>(y), ptr<const T>(x.value), ptr<const acc<T>>(grid.value));
  });
  return record("sample_bilinear", y, {x, grid},
                [s, bytes, xv = x.value, gv = grid.value, dx_needed = x.needs_grad(),
                 dgrid_needed = grid.needs_grad()](const Tensor& dy) -> Grads {
                  const Tensor dx = dx_needed ? like(xv) : Tensor(),
                               dgrid = dgrid_needed ? like(gv) : Tensor();
                  dispatch({"sample_bilinear.backward", 0, 2 * bytes}, xv, [&](auto dev, auto t) {
                    using T = decltype(t);
                    if (dx_needed)
                      sample_bilinear_dx<T>(dev, s, ptr<T>(dx), ptr<const T>(dy), ptr<const acc<T>>(gv));
                    if (dgrid_needed)
                      sample_bilinear_dgrid<T>(dev, s, ptr<acc<T>>(dgrid), ptr<const T>(dy), ptr<const T>(xv),
                                               ptr<const acc<T>>(gv));
                  });
                  return {dx, dgrid};
                });
}

}  // namespace qfm
