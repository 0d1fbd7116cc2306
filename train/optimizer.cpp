#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "engine/dispatch.h"
#include "kernels/adamw.h"
#include "kernels/reduce.h"

namespace qfm {

double gradient_norm(const ParamSet& params) {
  double sum = 0;
  const auto n = static_cast<double>(params.size());
  dispatch_cpu({"gradient norm", 2 * n, 4 * n}, params.gradient, [&](auto dev, auto t) {
    sum = sum_squares(dev, ptr<const decltype(t)>(params.gradient), params.size());
  });
  return std::sqrt(sum);
}

Optimizer::Optimizer(ParamSet& params, const OptimizerOptions& options)
    : m(Tensor::zeros({params.size()}, params.master.dtype(), params.master.device())),
      v(m.clone()),
      options(options),
      params_(params) {
  QFM_CHECK(!params.gradient.empty(), "optimizer: the model is not set up for training");
}

void Optimizer::step(double lr, double norm) {
  const double clip = options.clip > 0 ? std::min(1.0, options.clip / (norm + 1e-6)) : 1.0;
  ++steps;
  update(lr, options.weight_decay, clip, 0, params_.decayed_size());
  update(lr, 0, clip, params_.decayed_size(), params_.size());
}

void Optimizer::update(double lr, double weight_decay, double clip, int64_t begin, int64_t end) {
  const AdamW rule{lr, options.beta1, options.beta2, options.eps, weight_decay, steps, clip};
  const int64_t n = end - begin;
  const Tensor& computed = params_.copy.empty() ? params_.master : params_.copy;
  dispatch_cpu({"adamw", 0, 28.0 * static_cast<double>(n)}, computed, [&](auto dev, auto t) {
    using T = decltype(t);
    using A = acc<T>;
    adamw<T>(dev, rule, ptr<A>(params_.master) + begin,
             params_.copy.empty() ? nullptr : ptr<T>(params_.copy) + begin, ptr<A>(m) + begin,
             ptr<A>(v) + begin, ptr<const A>(params_.gradient) + begin, n);
  });
}

}  // namespace qfm
