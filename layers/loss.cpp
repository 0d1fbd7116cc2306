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

namespace {

template <class Kernel>
Var mean_loss(const char* name, const Var& prediction, const Tensor& target, Kernel&& kernel) {
  const Tensor& p = prediction.value;
  QFM_CHECK(p.shape() == target.shape() && p.dtype() == target.dtype() && p.numel() > 0, name,
            ": prediction is ", p.shape(), " ", name_of(p.dtype()), ", target is ", target.shape(), " ",
            name_of(target.dtype()));
  const Tensor loss = acc_like(p, {1}), grad = like(p);
  dispatch({name, 0, 3.0 * static_cast<double>(p.bytes())}, p, [&](auto dev, auto t) {
    using T = decltype(t);
    kernel(dev, ptr<acc<T>>(loss), ptr<T>(grad), ptr<const T>(p), ptr<const T>(target), p.numel());
  });
  return record_loss(name, loss, prediction, grad);
}

}  // namespace

Var smooth_l1(const Var& prediction, const Tensor& target, double beta) {
  QFM_CHECK(beta > 0, "smooth_l1: beta is ", beta);
  return mean_loss("smooth_l1", prediction, target,
                   [beta](auto dev, auto* loss, auto* grad, const auto* p, const auto* t, int64_t n) {
                     smooth_l1(dev, loss, grad, p, t, beta, n);
                   });
}

Var mse(const Var& prediction, const Tensor& target) {
  return mean_loss("mse", prediction, target,
                   [](auto dev, auto* loss, auto* grad, const auto* p, const auto* t, int64_t n) {
                     mse(dev, loss, grad, p, t, n);
                   });
}

}  // namespace qfm
