#include "layers/layernorm.h"

#include "engine/dispatch.h"
#include "kernels/layernorm.h"

namespace qfm {

Var layernorm(const Var& x, const Var& w, const Var& b, double eps) {
  const auto m = as_matrix(x.value);
  QFM_CHECK(w.shape() == Shape{m.cols} && b.shape() == Shape{m.cols}, "layernorm: x is ", x.shape(),
            ", w is ", w.shape(), ", b is ", b.shape());
  const Tensor y = like(x.value), mean = acc_like(x.value, {m.rows}), rstd = acc_like(x.value, {m.rows});
  const auto bytes = static_cast<double>(y.bytes());
  dispatch({"layernorm", 0, 2 * bytes}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    layernorm_forward<T>(dev, ptr<T>(y), ptr<acc<T>>(mean), ptr<acc<T>>(rstd), ptr<const T>(x.value),
                         ptr<const T>(w.value), ptr<const T>(b.value), m.rows, m.cols, eps);
  });
  return record("layernorm", y, {x, w, b},
                [m, bytes, mean, rstd, xv = x.value, wv = w.value](const Tensor& dy) -> Grads {
                  const Tensor dx = like(xv), dw = acc_like(xv, {m.cols}), db = acc_like(xv, {m.cols});
                  const Tensor workspace = acc_like(xv, {layernorm_workspace(m.rows, m.cols)});
                  dispatch({"layernorm.backward", 0, 3 * bytes}, xv, [&](auto dev, auto t) {
                    using T = decltype(t);
                    layernorm_backward<T>(dev, ptr<T>(dx), ptr<acc<T>>(dw), ptr<acc<T>>(db), ptr<const T>(dy),
                                          ptr<const T>(xv), ptr<const T>(wv), ptr<const acc<T>>(mean),
                                          ptr<const acc<T>>(rstd), ptr<acc<T>>(workspace), m.rows, m.cols);
                  });
                  return {dx, dw, db};
                });
}

}  // namespace qfm
