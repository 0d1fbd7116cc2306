#include "layers/similarity.h"

#include "engine/dispatch.h"
#include "kernels/reduce/reduce.h"

namespace qfm {

Var l2norm(const Var& x, double eps) {
  const auto m = as_matrix(x.value);
  const Tensor y = like(x.value), norm = acc_like(x.value, {m.rows});
  dispatch({"l2norm", 0, 2.0 * static_cast<double>(y.bytes())}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    l2norm_forward<T>(dev, ptr<T>(y), ptr<acc<T>>(norm), ptr<const T>(x.value), m.rows, m.cols, eps);
  });
  return record("l2norm", y, {x}, [m, eps, y, norm](const Tensor& dy) -> Grads {
    const Tensor dx = like(y);
    dispatch({"l2norm.backward", 0, 3.0 * static_cast<double>(y.bytes())}, y, [&](auto dev, auto t) {
      using T = decltype(t);
      l2norm_backward<T>(dev, ptr<T>(dx), ptr<const T>(dy), ptr<const T>(y), ptr<const acc<T>>(norm), m.rows,
                         m.cols, eps);
    });
    return {dx};
  });
}

Var cosine(const Var& a, const Var& b, double eps) {
  QFM_CHECK(a.value.rank() == 2 && a.shape() == b.shape(), "cosine: a is ", a.shape(), ", b is ", b.shape());
  const auto m = as_matrix(a.value);
  const Tensor y = like(a.value, {m.rows});
  dispatch({"cosine", 0, 2.0 * static_cast<double>(a.value.bytes())}, a.value, [&](auto dev, auto t) {
    using T = decltype(t);
    cosine_forward<T>(dev, ptr<T>(y), ptr<const T>(a.value), ptr<const T>(b.value), m.rows, m.cols, eps);
  });
  return record("cosine", y, {a, b}, [m, eps, av = a.value, bv = b.value](const Tensor& dy) -> Grads {
    const Tensor da = like(av), db = like(bv);
    dispatch({"cosine.backward", 0, 4.0 * static_cast<double>(av.bytes())}, av, [&](auto dev, auto t) {
      using T = decltype(t);
      cosine_backward<T>(dev, ptr<T>(da), ptr<T>(db), ptr<const T>(dy), ptr<const T>(av), ptr<const T>(bv),
                         m.rows, m.cols, eps);
    });
    return {da, db};
  });
}

}  // namespace qfm
