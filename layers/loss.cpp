#include "layers/loss.h"

#include "engine/dispatch.h"
#include "kernels/loss/loss.h"
#include "kernels/pointwise/elementwise.h"

namespace qfm {

Var record_loss(const char* name, const Tensor& loss, const Var& x, const Tensor& grad) {
  return record(name, loss, {x}, [name, grad](const Tensor& dy) -> Grads {
    const Tensor dx = like(grad);
    dispatch({name, 0, 2.0 * static_cast<double>(grad.bytes())}, grad, [&](auto dev, auto t) {
      using T = decltype(t);
      scale_by<T>(dev, ptr<T>(dx), ptr<const T>(grad), ptr<const acc<T>>(dy), grad.numel());
    });
    return {dx};
  });
}

Var smooth_l1(const Var& prediction, const Tensor& target, double beta) {
  QFM_CHECK(beta > 0, "smooth_l1: beta is ", beta);
  const Tensor& p = prediction.value;
  QFM_CHECK(p.shape() == target.shape() && p.dtype() == target.dtype() && p.numel() > 0,
            "smooth_l1: prediction is ", p.shape(), " ", name_of(p.dtype()), ", target is ", target.shape(),
            " ", name_of(target.dtype()));
  const Tensor loss = acc_like(p, {1}), grad = like(p);
  dispatch({"smooth_l1", 0, 3.0 * static_cast<double>(p.bytes())}, p, [&](auto dev, auto t) {
    using T = decltype(t);
    smooth_l1<T>(dev, ptr<acc<T>>(loss), ptr<T>(grad), ptr<const T>(p), ptr<const T>(target), beta,
                 p.numel());
  });
  return record_loss("smooth_l1", loss, prediction, grad);
}

}  // namespace qfm
