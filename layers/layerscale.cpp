#include "layers/layerscale.h"

#include "engine/dispatch.h"
#include "kernels/pointwise/elementwise.h"

namespace qfm {

Var layerscale(const Var& x, const Var& gamma, const Var& residual) {
  const auto m = as_matrix(x.value);
  QFM_CHECK(gamma.shape() == Shape{m.cols}, "layerscale: x is ", x.shape(), ", gamma is ", gamma.shape());
  QFM_CHECK(residual.value.empty() || residual.shape() == x.shape(), "layerscale: x is ", x.shape(),
            ", residual is ", residual.shape());
  const Tensor y = like(x.value);
  const auto bytes = static_cast<double>(y.bytes());
  dispatch({"layerscale", 0, 3 * bytes}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    layerscale_forward<T>(dev, ptr<T>(y), ptr<const T>(x.value), ptr<const T>(gamma.value),
                          ptr_or_null<const T>(residual.value), m.rows, m.cols);
  });
  return record(
      "layerscale", y, {x, gamma, residual},
      [m, bytes, xv = x.value, gv = gamma.value, r_needs = residual.needs_grad()](const Tensor& dy) -> Grads {
        const Tensor dx = like(xv), dgamma = acc_like(xv, {m.cols});
        dispatch({"layerscale.backward", 0, 3 * bytes}, xv, [&](auto dev, auto t) {
          using T = decltype(t);
          layerscale_backward<T>(dev, ptr<T>(dx), ptr<acc<T>>(dgamma), ptr<const T>(dy), ptr<const T>(xv),
                                 ptr<const T>(gv), m.rows, m.cols);
        });
        return {dx, dgamma, r_needs ? dy : Tensor()};
      });
}

}  // namespace qfm
