#include "layers/noise.h"

#include "engine/dispatch.h"
#include "kernels/matching/matching.h"
#include "kernels/matching/noise.h"
#include "layers/pointwise.h"
#include "layers/reduce.h"

namespace qfm {
namespace {

// (B) as (B, 1, ...), to be repeated over each image of a tensor of that rank.
Tensor a_number_an_image(const Tensor& x, int rank) {
  std::vector<int64_t> dims(static_cast<size_t>(rank), 1);
  dims[0] = x.dim(0);
  return x.reshape(Shape(dims));
}

}  // namespace

Var perturb(const Var& patches, const Tensor& noise, const Tensor& factor) {
  const Tensor& p = patches.value;
  QFM_CHECK(noise.shape() == p.shape() && factor.shape() == Shape{p.dim(0)}, "perturb: patches are ",
            p.shape(), ", noise ", noise.shape(), ", factors ", factor.shape());
  return patches + Var(map("perturb", fn::Multiply{}, noise, a_number_an_image(factor, p.rank()).to(p.dtype())));
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
  const Tensor rows = x.reshape({x.dim(0), x.numel() / std::max<int64_t>(1, x.dim(0))});
  return map("image_norms", fn::Sqrt{}, sum_to(rows, {x.dim(0), 1}, acc_of(x.dtype()), rows)).reshape({x.dim(0)});
}

Tensor noise_factor(const Tensor& strength, const Tensor& norms, const Tensor& noise_norms) {
  const char* const name = "noise_factor";
  const Tensor none = map(name, fn::Equal{}, noise_norms, Tensor::zeros({1}, norms.dtype(), norms.device()));  // 1 or 0
  const Tensor length = map(name, fn::Multiply{}, strength, norms);
  const Tensor factor = map(name, fn::Divide{}, length, map(name, fn::Add{}, noise_norms, none));
  return map(name, fn::Multiply{}, factor, map(name, fn::Affine{-1, 1}, none));
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

void put_rows(const Tensor& y, const Tensor& x, const Tensor& to) {
  const int64_t rows = x.dim(0), cols = x.numel() / std::max<int64_t>(1, rows);
  dispatch({"put_rows", 0, 2.0 * static_cast<double>(x.bytes())}, x, [&](auto dev, auto t) {
    using T = decltype(t);
    put_rows<T>(dev, ptr<T>(y), ptr<const T>(x), ptr<const int64_t>(to), rows, cols);
  });
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
  const char* const name = "noise_variance";
  const DType full = acc_of(noise.dtype());
  const Tensor x = map(name, fn::Multiply{}, noise.to(full), a_number_an_image(factor, 3));
  const Tensor share = map(name, fn::DivideBy{static_cast<double>(noise.dim(1))}, a_number_an_image(weight, 3));
  const auto weighted_mean = [&](const Tensor& t) {
    return sum_to(map(name, fn::Multiply{}, t, share), {1, 1, noise.dim(2)}, full);
  };
  const Tensor apart = map(name, fn::Subtract{}, x, weighted_mean(x));
  return weighted_mean(map(name, fn::Multiply{}, apart, apart)).reshape({noise.dim(2)});
}

}  // namespace qfm
