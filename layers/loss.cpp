#include "layers/loss.h"

#include "engine/dispatch.h"
#include "kernels/loss/loss.h"
#include "layers/pointwise.h"
#include "layers/reduce.h"

namespace qfm {

namespace {

// (n, classes) F32: 1 at each id.
Tensor one_hot(const Tensor& ids, int64_t classes) {
  const auto values = ids.span<const int32_t>();
  const Tensor y = Tensor::zeros({ids.dim(0), classes});
  for (size_t i = 0; i < values.size(); ++i) {
    QFM_CHECK(values[i] >= 0 && values[i] < classes, "cross_entropy: id ", values[i], " of row ", i, " is not in [0, ",
              classes, ")");
    y.span<float>()[i * static_cast<size_t>(classes) + static_cast<size_t>(values[i])] = 1;
  }
  return y;
}

}  // namespace

Var record_loss(const char* name, const Tensor& loss, const Var& x, const Tensor& grad) {
  return record(name, loss, {x}, [name, grad](const Tensor& dy) -> Grads {
    const DType type = grad.dtype();  // of less precision than dy, maybe
    return {map(name, fn::Multiply{}, grad.to(dy.dtype()), dy).to(type)};
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

Var beta_nll(const Var& mean, const Var& log_variance, const Tensor& target, double beta) {
  QFM_CHECK(mean.value.shape() == target.shape() && log_variance.value.shape() == target.shape() && target.rank() == 1,
            "beta_nll: mean is ", mean.value.shape(), ", log variance is ", log_variance.value.shape(), ", target is ",
            target.shape());
  const Var d = mean - Var(target), weight = exp(Var(log_variance.value) * beta);
  return qfm::mean(Var(weight.value) * (d * d * exp(-log_variance) + log_variance)) * 0.5;
}

Var cross_entropy(const Var& logits, const Tensor& ids) {
  QFM_CHECK(logits.value.rank() == 2 && ids.shape() == Shape{logits.dim(0)} && ids.dtype() == DType::I32 &&
                logits.dim(0) > 0,
            "cross_entropy: logits are ", logits.shape(), ", ids are ", ids.shape(), " ", name_of(ids.dtype()));
  const Var x = cast(logits, acc_of(logits.value.dtype()));
  const Tensor chosen = one_hot(ids.to(cpu_device), logits.dim(1)).to(x.value.dtype()).to(x.value.device());
  const Var shifted = x - Var(max(Var(x.value), {-1}, true).value);  // the same loss, and no exp overflows
  return mean(log(sum(exp(shifted), {-1})) - sum(shifted * chosen, {-1}));
}

}  // namespace qfm
