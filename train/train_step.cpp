#include "train/train_step.h"

#include <cmath>

#include "layers/loss.h"

namespace qfm {

StepResult train_step(QfmIqm& model, Optimizer& optimizer, const Tensor& images, const Tensor& labels,
                      double lr) {
  ParamSet& params = model.params;
  const auto ready = [&](const Tensor& x) { return x.to(params.compute()).to(params.master.device()); };
  params.zero_grad();
  const Var loss = smooth_l1(model(ready(images)).score, ready(labels));
  StepResult result{loss.value.to(cpu_device).to(DType::F64).data<double>()[0], 0};
  QFM_CHECK(std::isfinite(result.loss), "the loss is ", result.loss);
  backward(loss);
  result.grad_norm = gradient_norm(params);
  QFM_CHECK(std::isfinite(result.grad_norm), "the norm of the gradient is ", result.grad_norm);
  optimizer.step(lr, result.grad_norm);
  return result;
}

}  // namespace qfm
