#include "layers/noise.h"

#include "engine/dispatch.h"
#include "kernels/matching/matching.h"
#include "kernels/matching/noise.h"

namespace qfm {

Var perturb(const Var& patches, const Tensor& noise, const Tensor& factor) {
  const Tensor& p = patches.value;
  QFM_CHECK(noise.shape() == p.shape() && factor.shape() == Shape{p.dim(0)}, "perturb: patches are ",
            p.shape(), ", noise ", noise.shape(), ", factors ", factor.shape());
  const Tensor y = like(p);
  dispatch({"perturb", 0, 3.0 * static_cast<double>(y.bytes())}, p, [&](auto dev, auto t) {
    using T = decltype(t);
    add_scaled<T>(dev, ptr<T>(y), ptr<const T>(p), ptr<const T>(noise), ptr<const acc<T>>(factor), p.dim(0),
                  p.numel() / std::max<int64_t>(1, p.dim(0)));
  });
  return record("perturb", y, {patches}, [](const Tensor& dy) -> Grads { return {dy}; });
}

namespace {

// f(device tag, accumulator) for small tensors of the accumulation type: F32 or, on the CPU, F64.
template <class F>
void dispatch_acc(const char* name, const Tensor& x, F&& f) {
  dispatch({name}, x, [&](auto dev, auto t) {
    if constexpr (std::is_same_v<decltype(t), bf16>) QFM_FAIL(name, ": needs an accumulation type");
    else f(dev, t);
  });
}

}  // namespace

Tensor match_weights(const Tensor& partner, DType accumulation) {
  const Tensor weight(partner.shape(), accumulation, partner.device());
  dispatch_acc("match_weights", weight, [&](auto dev, auto t) {
    match_weights(dev, ptr<decltype(t)>(weight), ptr<const int32_t>(partner), partner.numel());
  });
  return weight;
}

Tensor image_norms(const Tensor& x) {
  const Tensor norms = acc_like(x, {x.dim(0)});
  dispatch({"image_norms", 0, static_cast<double>(x.bytes())}, x, [&](auto dev, auto t) {
    using T = decltype(t);
    frobenius<T>(dev, ptr<acc<T>>(norms), ptr<const T>(x), x.dim(0),
                 x.numel() / std::max<int64_t>(1, x.dim(0)));
  });
  return norms;
}

Tensor noise_factor(const Tensor& strength, const Tensor& norms, const Tensor& noise_norms) {
  const Tensor factor = like(norms);
  dispatch_acc("noise_factor", norms, [&](auto dev, auto t) {
    using A = decltype(t);
    noise_factor(dev, ptr<A>(factor), ptr<const A>(strength), ptr<const A>(norms), ptr<const A>(noise_norms),
                 norms.numel());
  });
  return factor;
}

Tensor gather_tokens(const Tensor& x, const Tensor& from, const Tensor& order) {
  const int64_t batch = order.dim(0), tokens = order.dim(1);
  QFM_CHECK(x.rank() == 3 && x.dim(1) == tokens && from.shape() == Shape{batch}, "gather_tokens: x is ",
            x.shape(), ", from ", from.shape(), ", order ", order.shape());
  const Tensor y = like(x, {batch, tokens, x.dim(2)});
  dispatch({"gather_tokens", 0, 2.0 * static_cast<double>(y.bytes())}, x, [&](auto dev, auto t) {
    using T = decltype(t);
    gather_tokens<T>(dev, ptr<T>(y), ptr<const T>(x), ptr<const int32_t>(from), ptr<const int32_t>(order),
                     batch, tokens, x.dim(2));
  });
  return y;
}

void keep_worst_case(const Tensor& strength, const Tensor& change, const Tensor& trial, const Tensor& score,
                     const Tensor& clean) {
  dispatch({"keep_worst_case"}, score, [&](auto dev, auto t) {
    using T = decltype(t);
    using A = acc<T>;
    keep_worst_case<T>(dev, ptr<A>(strength), ptr<A>(change), ptr<const A>(trial), ptr<const T>(score),
                       ptr<const T>(clean), score.numel());
  });
}

Tensor noise_variance(const Tensor& noise, const Tensor& factor, const Tensor& weight) {
  const Tensor variance = acc_like(noise, {noise.dim(2)});
  dispatch({"noise_variance", 0, 2.0 * static_cast<double>(noise.bytes())}, noise, [&](auto dev, auto t) {
    using T = decltype(t);
    using A = acc<T>;
    noise_variance<T>(dev, ptr<A>(variance), ptr<const T>(noise), ptr<const A>(factor), ptr<const A>(weight),
                      noise.dim(0), noise.dim(1), noise.dim(2));
  });
  return variance;
}

}  // namespace qfm
