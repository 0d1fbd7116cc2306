#include "layers/batchnorm.h"

#include "engine/dispatch.h"
#include "kernels/norm/batchnorm.h"

namespace qfm {
namespace {

BatchNormShape checked(const Var& x, const Var& weight, const Var& bias, const Tensor& running_mean,
                       const Tensor& running_var, double eps, Activation activation, const Var& residual) {
  QFM_CHECK(x.value.rank() == 4 && x.value.numel() > 0, "batchnorm: x is ", x.shape(),
            ", expected images (B, C, H, W)");
  const Shape channels{x.dim(1)};
  QFM_CHECK(weight.shape() == channels && bias.shape() == channels, "batchnorm: x is ", x.shape(),
            ", weight is ", weight.shape(), ", bias is ", bias.shape());
  for (const Tensor& running : {running_mean, running_var})
    QFM_CHECK(running.empty() || running.shape() == channels, "batchnorm: x is ", x.shape(),
              ", a running statistic is ", running.shape());
  QFM_CHECK(residual.value.empty() || residual.shape() == x.shape(), "batchnorm: x is ", x.shape(),
            ", residual is ", residual.shape());
  return {x.dim(0), x.dim(1), x.dim(2) * x.dim(3), eps, activation};
}

// y with its history; mean, rstd: what it was normalised by, in the accumulation type.
Var normalised(const char* name, const BatchNormShape& shape, const Tensor& y, const Var& x,
               const Var& weight, const Var& bias, const Var& residual, const Tensor& mean,
               const Tensor& rstd) {
  return record(name, y, {x, residual, weight, bias},
                [shape, mean, rstd, xv = x.value, rv = residual.value, wv = weight.value,
                 bv = bias.value](const Tensor& dy) -> Grads {
                  const Tensor dx = like(xv), dw = acc_like(xv, wv.shape()), db = acc_like(xv, wv.shape());
                  const bool plain = shape.activation == Activation::None;
                  const Tensor dresidual = rv.empty() || plain ? Tensor() : like(rv);
                  const double passes = dresidual.empty() ? 3 : 5;
                  dispatch({"batchnorm.backward", 0, passes * static_cast<double>(xv.bytes())}, xv,
                           [&](auto dev, auto t) {
                             using T = decltype(t);
                             batchnorm_backward<T>(dev, shape, ptr<T>(dx), ptr_or_null<T>(dresidual),
                                                   ptr<acc<T>>(dw), ptr<acc<T>>(db), ptr<const T>(dy),
                                                   ptr<const T>(xv), ptr_or_null<const T>(rv),
                                                   ptr<const T>(wv), ptr<const T>(bv),
                                                   ptr<const acc<T>>(mean), ptr<const acc<T>>(rstd));
                           });
                  return {dx, rv.empty() ? Tensor() : plain ? dy : dresidual, dw, db};
                });
}

// mean and rstd are empty where no backward follows.
void fold(const Tensor& scale, const Tensor& shift, const Tensor& mean, const Tensor& rstd,
          const Tensor& weight, const Tensor& bias, const Tensor& running_mean, const Tensor& running_var,
          double eps) {
  dispatch({"batchnorm.fold"}, weight, [&](auto dev, auto t) {
    using T = decltype(t);
    batchnorm_fold<T>(dev, weight.numel(), eps, ptr<acc<T>>(scale), ptr<acc<T>>(shift),
                      ptr_or_null<acc<T>>(mean), ptr_or_null<acc<T>>(rstd), ptr<const T>(weight),
                      ptr<const T>(bias), ptr<const float>(running_mean), ptr<const float>(running_var));
  });
}

}  // namespace

Var batchnorm(const Var& x, const Var& weight, const Var& bias, const Tensor& running_mean,
              const Tensor& running_var, double eps, double momentum, Activation activation,
              const Var& residual) {
  const BatchNormShape shape = checked(x, weight, bias, running_mean, running_var, eps, activation, residual);
  QFM_CHECK(shape.batch * shape.places > 1, "batchnorm: x is ", x.shape(),
            ": one element a channel has no variance to train by; take larger images or batches");
  const Tensor y = like(x.value), mean = acc_like(x.value, weight.shape()),
               rstd = acc_like(x.value, weight.shape());
  const double passes = residual.value.empty() ? 2 : 3;
  dispatch({"batchnorm", 0, passes * static_cast<double>(y.bytes())}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    batchnorm_forward<T>(dev, shape, ptr<T>(y), ptr<acc<T>>(mean), ptr<acc<T>>(rstd),
                         ptr_or_null<float>(running_mean), ptr_or_null<float>(running_var), momentum,
                         ptr<const T>(x.value), ptr_or_null<const T>(residual.value),
                         ptr<const T>(weight.value), ptr<const T>(bias.value));
  });
  return normalised("batchnorm", shape, y, x, weight, bias, residual, mean, rstd);
}

Var batchnorm_fixed(const Var& x, const Var& weight, const Var& bias, const Tensor& running_mean,
                    const Tensor& running_var, double eps, Activation activation, const Var& residual) {
  BatchNormShape shape = checked(x, weight, bias, running_mean, running_var, eps, activation, residual);
  shape.fixed = true;
  const bool graph = needs_graph({&x, &weight, &bias, &residual});
  const auto statistic = [&] { return acc_like(x.value, weight.shape()); };
  const Tensor y = like(x.value), scale = statistic(), shift = statistic();
  const Tensor mean = graph ? statistic() : Tensor(), rstd = graph ? statistic() : Tensor();
  fold(scale, shift, mean, rstd, weight.value, bias.value, running_mean, running_var, eps);
  const double passes = residual.value.empty() ? 2 : 3;
  dispatch({"scale_shift", 0, passes * static_cast<double>(y.bytes())}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    scale_shift_forward<T>(dev, shape, ptr<T>(y), ptr<const T>(x.value), ptr_or_null<const T>(residual.value),
                           ptr<const acc<T>>(scale), ptr<const acc<T>>(shift));
  });
  return normalised("batchnorm_fixed", shape, y, x, weight, bias, residual, mean, rstd);
}

BatchNorm::BatchNorm(const Scope& scope, int64_t channels, double eps, double momentum)
    : weight(scope.vector("weight", {channels}, constant(1))),
      bias(scope.vector("bias", {channels}, constant(0))),
      running_mean(scope.buffer("running_mean", {channels}, 0)),
      running_var(scope.buffer("running_var", {channels}, 1)),
      eps(eps),
      momentum(momentum),
      training(scope.training()) {}

bool BatchNorm::uses_batch() const { return training && weight.trainable(); }

Var BatchNorm::operator()(const Var& x, Activation activation, const Var& residual) const {
  if (uses_batch())
    return batchnorm(x, weight, bias, running_mean.value(), running_var.value(), eps, momentum, activation,
                     residual);
  return batchnorm_fixed(x, weight, bias, running_mean.value(), running_var.value(), eps, activation,
                         residual);
}

Var conv_norm(const Conv2d& conv, const BatchNorm& norm, const Var& x, Activation activation,
              const Var& residual) {
  const Var &weight = conv.weight, &norm_weight = norm.weight, &norm_bias = norm.bias;
  if (norm.uses_batch() || conv.has_bias || needs_graph({&x, &weight, &norm_weight, &norm_bias, &residual}))
    return norm(conv(x), activation, residual);
  const Tensor gain = norm.weight.value(), scale = acc_like(gain, gain.shape()),
               shift = acc_like(gain, gain.shape());
  fold(scale, shift, {}, {}, gain, norm.bias.value(), norm.running_mean.value(), norm.running_var.value(),
       norm.eps);
  return conv2d_forward(x.value, weight.value, conv.options, {scale, shift, residual.value, activation});
}

}  // namespace qfm
