// What the convolution layer refuses, and what it fuses: scale, shift, residual and activation against each in turn.
#include "layers/conv2d.h"

#include <algorithm>
#include <cmath>

#include "engine/base/rng.h"
#include "tests/scopes.h"
#include "tests/support.h"
#include "tests/tolerance.h"

using namespace qfm;
using namespace qfm::test;

namespace {

Tensor normal(const char* name, Shape shape, DType dtype) {
  Rng rng(7, name, 0);
  Tensor t(shape, DType::F32);
  for (float& v : t.span<float>()) v = static_cast<float>(rng.normal());
  return t.to(DType::BF16).to(dtype);
}

std::string refusal(const Shape& x, const Shape& w, const ConvOptions& options, const Shape& bias = {}) {
  const Var b = bias.rank() > 0 ? Var(Tensor::zeros(bias)) : Var();
  return message_of([&] { conv2d(Tensor::zeros(x), Tensor::zeros(w), b, options); });
}

double activated(Activation f, double v) {
  if (f == Activation::Relu) return std::max(v, 0.0);
  if (f == Activation::Relu6) return std::min(std::max(v, 0.0), 6.0);
  if (f == Activation::Silu) return v / (1 + std::exp(-v));
  return v;
}

}  // namespace

TEST_CASE("conv2d refuses what does not fit, and says why") {
  const auto square = [](int64_t stride, int64_t padding, int64_t groups = 1, int64_t dilation = 1) {
    return ConvOptions::square(stride, padding, groups, dilation);
  };
  const Shape x{2, 4, 5, 5};
  CHECK(refusal(x, {6, 4, 3, 3}, square(1, 1), {6}) == "");
  CHECK(contains(refusal({4, 5, 5}, {6, 4, 3, 3}, square(1, 1)), "conv2d: x is (4, 5, 5)"));
  CHECK(contains(refusal(x, {6, 4}, square(1, 1)), "w is (6, 4)"));
  CHECK(contains(refusal(x, {6, 4, 3, 3}, square(1, 1, 0)), "0 groups of 4 channels in and 6 out"));
  CHECK(contains(refusal(x, {6, 4, 3, 3}, square(1, 1, -1)), "-1 groups"));
  CHECK(contains(refusal(x, {6, 1, 3, 3}, square(1, 1, 3)), "3 groups of 4 channels in"));
  CHECK(contains(refusal(x, {6, 1, 3, 3}, square(1, 1, 4)), "4 groups of 4 channels in and 6 out"));
  CHECK(contains(refusal(x, {6, 3, 3, 3}, square(1, 1)), "w is (6, 3, 3, 3), 1 groups"));
  CHECK(contains(refusal(x, {6, 4, 7, 7}, square(1, 0)), "larger than the padded image"));
  CHECK(contains(refusal(x, {6, 4, 3, 3}, square(1, 0, 1, 3)), "larger than the padded image"));
  CHECK(contains(refusal(x, {6, 4, 3, 0}, square(1, 1)), "below 1"));
  CHECK(contains(refusal(x, {6, 4, 3, 3}, square(0, 1)), "stride"));
  CHECK(contains(refusal(x, {6, 4, 3, 3}, square(1, -1)), "padding below 0"));
  CHECK(contains(refusal(x, {6, 4, 3, 3}, square(1, 1, 1, 0)), "dilation"));
  CHECK(contains(refusal(x, {6, 4, 3, 3}, square(1, 1), {5}), "bias is (5)"));
  ParamSet set;
  CHECK(contains(message_of([&] { Conv2d(set, 4, 6, 3, square(1, 1, 3), constant(1)); }),
                 "3 groups of 4 channels"));
}

TEST_CASE("conv2d fuses scale, shift, residual and activation, in this order") {
  for (const DType dtype : {DType::F32, DType::BF16, DType::F64})
    for (const int64_t groups : {1, 6})
      for (const Activation f : {Activation::None, Activation::Relu, Activation::Relu6, Activation::Silu}) {
        const ConvOptions options = ConvOptions::square(1, 1, groups);
        const Tensor x = normal("x", {2, 6, 7, 19}, dtype), w = normal("w", {6, 6 / groups, 3, 3}, dtype);
        const Tensor residual = normal("residual", {2, 6, 7, 19}, dtype);
        const Tensor scale = normal("scale", {6}, acc_of(dtype)), shift = normal("shift", {6}, acc_of(dtype));
        const Tensor y = conv2d_forward(x, w, options, {scale, shift, residual, f}).to(DType::F64);
        const Tensor plain = conv2d_forward(x.to(DType::F64), w.to(DType::F64), options);
        const Tensor a = scale.to(DType::F64), b = shift.to(DType::F64), r = residual.to(DType::F64);
        std::vector<double> expected;
        for (int64_t i = 0; i < y.numel(); ++i) {
          const auto at = static_cast<size_t>(i), o = static_cast<size_t>(i / (7 * 19) % 6);
          expected.push_back(activated(f, plain.span<double>()[at] * a.span<double>()[o] +
                                              b.span<double>()[o] + r.span<double>()[at]));
        }
        check_close("conv2d", y.span<double>(), expected, dtype, 54);
      }
  const Tensor x = Tensor::zeros({1, 2, 3, 3}), w = Tensor::zeros({4, 2, 3, 3});
  const auto refused = [&](const ConvFusion& fusion) {
    return message_of([&] { conv2d_forward(x, w, ConvOptions::square(1, 1), fusion); });
  };
  CHECK(contains(refused({.scale = Tensor::zeros({3})}), "scale is (3)"));
  CHECK(contains(refused({.shift = Tensor::zeros({2})}), "shift is (2)"));
  CHECK(contains(refused({.residual = Tensor::zeros({1, 4, 3, 2})}), "residual is (1, 4, 3, 2)"));
}

TEST_CASE("Conv2d names its parameters and makes only the gradients that are wanted") {
  ParamSet set;
  const Conv2d conv(Scope(set) / "stem", 3, 4, 3, ConvOptions::square(2, 1), constant(0.5), true);
  CHECK(conv.weight.name() == "stem.weight");
  CHECK(conv.weight.shape() == Shape{4, 3, 3, 3});
  CHECK(conv.bias.name() == "stem.bias");
  const Var x = Var::leaf(normal("x", {2, 3, 5, 7}, DType::F32)), w(normal("w", {4, 3, 3, 3}, DType::F32));
  const Var y = conv2d(x, w, {}, conv.options);
  CHECK(y.shape() == Shape{2, 4, 3, 4});
  backward(y, normal("dy", y.shape(), DType::F32));
  CHECK(x.grad().shape() == x.shape());
}
