#include "train/optim/optimizer.h"

#include <cmath>
#include <cstddef>

#include "engine/dispatch.h"
#include "kernels/reduce/reduce.h"

namespace qfm {
namespace {

constexpr size_t kInputs = offsetof(StepState, squares);  // bytes that the host writes

void check_finite(const StepResult& result) {
  QFM_CHECK(std::isfinite(result.loss), "the loss is ", result.loss);
  QFM_CHECK(std::isfinite(result.grad_norm), "the norm of the gradient is ", result.grad_norm);
}

}  // namespace

double gradient_norm(const ParamSet& params) {
  double sum = 0;
  const auto n = static_cast<double>(params.trained_size());
  dispatch_cpu({"gradient norm", 2 * n, 4 * n}, params.gradient, [&](auto dev, auto t) {
    sum = sum_squares(dev, ptr<const decltype(t)>(params.gradient), params.trained_size());
  });
  return std::sqrt(sum);
}

Optimizer::Optimizer(ParamSet& params, const AdamWRule& adamw)
    : m(Tensor::zeros({params.trained_size()}, params.master.dtype(), params.master.device())),
      v(m.clone()),
      rule(adamw),
      params_(params) {
  QFM_CHECK(!params.gradient.empty(), "optimizer: the model is not set up for training");
  if (m.device() == cpu_device) return;
  state_ = Tensor::zeros({int64_t{sizeof(StepState) + 7} / 8}, DType::I64, m.device());
  mirror_ = std::make_unique<PinnedBuffer>(sizeof(StepState));
}

void Optimizer::set_rate(double lr) {
  lr_ = lr;
  if (!mirror_) return;
  auto* state = mirror_->as<StepState>();
  state->lr = lr, state->step = steps + 1;
  cuda::copy_async(state_.raw(), state, kInputs, cuda::compute_stream());
}

const StepState* Optimizer::state() const {
  return mirror_ ? static_cast<const StepState*>(state_.raw()) : nullptr;
}

void Optimizer::update(const Tensor& loss) { mirror_ ? update_cuda(loss) : update_cpu(loss); }

StepResult Optimizer::finish() {
  if (mirror_) {
    auto* state = mirror_->as<StepState>();
    cuda::copy_async(state, state_.raw(), sizeof(StepState), cuda::compute_stream());
    cuda::synchronize();
    result_ = {state->loss, state->norm};
    check_finite(result_);
  }
  ++steps;
  return result_;
}

void Optimizer::update_cpu(const Tensor& loss) {
  result_ = {loss.to(DType::F64).data<double>()[0], gradient_norm(params_)};
  check_finite(result_);
  const double factor = clip_factor(rule, result_.grad_norm);
  const Tensor& computed = params_.copy.empty() ? params_.master : params_.copy;
  const auto range = [&](double weight_decay, int64_t begin, int64_t end) {
    AdamWRule own = rule;
    own.weight_decay = weight_decay;
    const auto n = static_cast<double>(end - begin);
    dispatch_cpu({"adamw", 0, 28 * n}, computed, [&](auto cpu, auto t) {
      using T = decltype(t);
      using A = acc<T>;
      adamw<T>(cpu, adamw_scalars<A>(own, lr_, steps + 1, factor), ptr<A>(params_.master) + begin,
               params_.copy.empty() ? nullptr : ptr<T>(params_.copy) + begin, ptr<A>(m) + begin,
               ptr<A>(v) + begin, ptr<const A>(params_.gradient) + begin, end - begin);
    });
  };
  range(rule.weight_decay, 0, params_.decayed_size());
  range(0, params_.decayed_size(), params_.trained_size());
}

void Optimizer::update_cuda(const Tensor& loss) {
  const Tensor& computed = params_.copy.empty() ? params_.master : params_.copy;
  const auto n = static_cast<double>(params_.trained_size());
  auto* state = static_cast<StepState*>(state_.raw());
  dispatch({"gradient norm", 2 * n, 4 * n}, params_.gradient, [&](auto dev, auto t) {
    if constexpr (!std::is_same_v<decltype(dev), Cpu>)
      sum_squares(dev, &state->squares, ptr<const decltype(t)>(params_.gradient), params_.trained_size());
  });
  dispatch({"adamw", 0, 30 * n}, computed, [&](auto dev, auto t) {
    using T = decltype(t);
    if constexpr (!std::is_same_v<decltype(dev), Cpu>)
      adamw<T>(dev, rule, state, ptr<const float>(loss), ptr<float>(params_.master),
               params_.copy.empty() ? nullptr : ptr<T>(params_.copy), ptr<float>(m), ptr<float>(v),
               ptr<const float>(params_.gradient), params_.trained_size(), params_.decayed_size());
  });
}

}  // namespace qfm
