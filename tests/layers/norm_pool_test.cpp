// What batch normalisation and pooling refuse; running statistics and when they serve; a normalisation folded into its
// convolution against the two in turn.
#include <cmath>

#include "engine/base/rng.h"
#include "layers/batchnorm.h"
#include "layers/pool2d.h"
#include "tests/scopes.h"
#include "tests/support.h"
#include "tests/tolerance.h"

using namespace qfm;
using namespace qfm::test;

namespace {

Tensor drawn_images(Shape shape, uint32_t index, double offset = 0) {
  Rng rng(18, "norm_pool", index);
  Tensor t(shape, DType::F32);
  for (float& v : t.span<float>()) v = static_cast<float>(offset + rng.normal());
  return t;
}

struct NormSet {
  ParamSet set;
  BatchNorm norm;
  explicit NormSet(int64_t channels, bool trainable = true) : norm(Scope(set) / "bn", channels) {
    if (!trainable) set.set_trainable("bn.", false);
    set.allocate(cpu_device, DType::F32, true);
    set.initialise(3);
  }
};

std::vector<float> floats_of(const Tensor& t) { return {t.span<float>().begin(), t.span<float>().end()}; }

}  // namespace

TEST_CASE("batchnorm refuses what does not fit, and says why") {
  NormSet s(3);
  const auto refusal = [&](const Shape& x, const Var& residual = {}) {
    return message_of([&] { s.norm(Tensor::zeros(x), Activation::Relu, residual); });
  };
  CHECK(refusal({1, 3, 1, 1}) == "");
  CHECK(contains(refusal({2, 4, 5, 5}), "batchnorm: x is (2, 4, 5, 5), weight is (3), bias is (3)"));
  CHECK(contains(refusal({2, 3, 5}), "x is (2, 3, 5), expected images"));
  CHECK(contains(refusal({0, 3, 5, 5}), "x is (0, 3, 5, 5), expected images"));
  CHECK(contains(refusal({2, 3, 5, 5}, Tensor::zeros({2, 3, 5, 4})), "residual is (2, 3, 5, 4)"));
  const TrainingScope training(s.set);
  CHECK(refusal({1, 3, 1, 2}) == "");
  CHECK(contains(refusal({1, 3, 1, 1}), "one element a channel has no variance to train by"));
  CHECK(contains(
      message_of([&] {
        batchnorm(Tensor::zeros({2, 3, 1, 1}), s.norm.weight, s.norm.bias, Tensor::zeros({2}), {}, 1e-5, 0.1);
      }),
      "a running statistic is (2)"));
}

TEST_CASE(
    "batchnorm takes the batch's statistics only where it trains, and moves the running ones only then") {
  const Tensor x = drawn_images({4, 2, 3, 5}, 0, 2.0);
  for (const bool trainable : {true, false}) {
    NormSet s(2, trainable);
    const Tensor untouched = s.norm(x).value;
    CHECK(floats_of(s.norm.running_mean.value()) == std::vector<float>{0, 0});
    CHECK(untouched.span<float>()[7] == doctest::Approx(x.span<float>()[7]).epsilon(1e-4));
    const TrainingScope training(s.set);
    CHECK(s.norm.uses_batch() == trainable);
    const Tensor y = s.norm(x).value;
    if (!trainable) {
      CHECK(floats_of(y) == floats_of(untouched));
      CHECK(floats_of(s.norm.running_var.value()) == std::vector<float>{1, 1});
      continue;
    }
    for (size_t c = 0; c < 2; ++c) {
      double mean = 0, square = 0;
      for (size_t b = 0; b < 4; ++b)
        for (size_t i = 0; i < 15; ++i) {
          const double v = x.span<float>()[(b * 2 + c) * 15 + i];
          mean += v / 60, square += v * v / 60;
        }
      CHECK(s.norm.running_mean.value().span<float>()[c] == doctest::Approx(0.1 * mean).epsilon(1e-6));
      const double unbiased = (square - mean * mean) * 60 / 59;
      CHECK(s.norm.running_var.value().span<float>()[c] ==
            doctest::Approx(0.9 + 0.1 * unbiased).epsilon(1e-6));
    }
  }
}

// Deviations of 1e-3 around 1000 have 4 digits in float: sums of x^2 would lose all of them.
TEST_CASE("batchnorm keeps the variance of channels far from zero") {
  Tensor x({2, 1, 50, 50}, DType::F32);
  double mean = 0, square = 0;
  for (int64_t i = 0; i < x.numel(); ++i)
    x.span<float>()[static_cast<size_t>(i)] = 1000.0f + 0.001f * static_cast<float>(i % 7);
  for (const float v : x.span<float>()) mean += double(v) / 5000;
  for (const float v : x.span<float>()) square += (v - mean) * (v - mean) / 5000;
  for (const CpuIsa path : {CpuIsa::Plain, CpuIsa::Avx2, CpuIsa::Avx512}) {
    if (!available(path)) continue;
    const PathScope scope(path);
    NormSet s(1);
    const TrainingScope training(s.set);
    const Tensor y = s.norm(x).value;
    const double rstd = 1 / std::sqrt(square + 1e-5);
    for (size_t i = 0; i < 14; ++i)
      CHECK(y.span<float>()[i] == doctest::Approx((x.span<float>()[i] - mean) * rstd).epsilon(1e-5));
  }
}

TEST_CASE(
    "conv_norm: folded into the convolution equals convolution, normalisation, residual and activation") {
  ParamSet set;
  const Conv2d conv(Scope(set) / "conv", 3, 5, 3, ConvOptions::square(2, 1), trunc_normal(0.3));
  const BatchNorm norm(Scope(set) / "bn", 5);
  set.allocate(cpu_device, DType::F32, true);
  set.initialise(4);
  const Var x = drawn_images({2, 3, 9, 8}, 1), residual = drawn_images({2, 5, 5, 4}, 2);
  {
    const TrainingScope training(set);  // moves the running statistics off 0 and 1
    for (int i = 0; i < 5; ++i) norm(conv(x));
  }
  for (const Activation a : {Activation::None, Activation::Relu, Activation::Relu6, Activation::Silu})
    for (const Var& added : {Var(), residual}) {
      const Tensor whole = conv_norm(conv, norm, x, a, added).value;  // weights want gradients: not folded
      const NoGrad inference;
      const Tensor folded = conv_norm(conv, norm, x, a, added).value;
      check_close("conv_norm", folded.to(DType::F64).span<double>(), whole.to(DType::F64).span<double>(),
                  DType::F32, 27);
      CHECK(folded.shape() == Shape{2, 5, 5, 4});
    }
  const TrainingScope training(set);
  const Var y = conv_norm(conv, norm, x, Activation::Relu, residual);
  CHECK(floats_of(y.value) == floats_of(norm(conv(x), Activation::Relu, residual).value));
  CHECK(y.needs_grad());
}

TEST_CASE("conv_norm: whatever of it is trained gets its gradient, also where the rest is frozen") {
  for (const char* trained : {"conv.weight", "bn.weight", "bn.bias"}) {
    CAPTURE(trained);
    ParamSet set;
    const Conv2d conv(Scope(set) / "conv", 3, 5, 3, ConvOptions::square(1, 1), trunc_normal(0.3));
    const BatchNorm norm(Scope(set) / "bn", 5);
    set.set_trainable("", false), set.set_trainable(trained, true);
    set.allocate(cpu_device, DType::F32, true);
    set.initialise(4);
    const Var y = conv_norm(conv, norm, drawn_images({2, 3, 4, 5}, 1), Activation::None);
    REQUIRE(y.needs_grad());
    backward(y, drawn_images({2, 5, 4, 5}, 2));
    for (const Param& p : set.params())
      if (p.trainable()) CHECK(largest(p.grad().to(DType::F64).span<double>()) > 0);
  }
}

TEST_CASE("pooling refuses what has no result, and says why") {
  const auto refusal = [](const Shape& x, const Window& down, const Window& along) {
    const std::string most = message_of([&] { max_pool2d(Tensor::zeros(x), down, along); });
    const std::string mean = message_of([&] { mean_pool2d(Tensor::zeros(x), down, along); });
    CHECK((most == "") == (mean == ""));
    return most;
  };
  const Shape x{2, 3, 5, 7};
  const Window two{2, 2};
  CHECK(refusal(x, two, two) == "");
  CHECK(refusal(x, {5, 1}, {7, 1}) == "");
  CHECK(contains(refusal({3, 5, 7}, two, two), "max_pool2d: x is (3, 5, 7), expected images"));
  CHECK(contains(refusal({0, 3, 5, 7}, two, two), "x is (0, 3, 5, 7), expected images"));
  CHECK(contains(refusal(x, {6, 1}, two), "smaller with its padding than the window of 6"));
  CHECK(contains(refusal(x, two, {3, 1, 0, 0, 4}), "smaller with its padding than the window of 9"));
  CHECK(contains(refusal(x, {3, 1, 2, 0}, two), "padding of 2 is more than half a window of 3"));
  CHECK(contains(refusal(x, two, {3, 1, 0, 2}), "padding of 2 is more than half a window of 3"));
  CHECK(contains(refusal({2, 3, 5, 9}, two, {2, 1, 1, 1, 10}), "window 0 sees padding only"));
  for (const Window& bad : {Window{0, 1}, {2, 0}, {2, 1, -1, 0}, {2, 1, 0, -1}, {2, 1, 0, 0, 0}})
    CHECK(contains(refusal(x, two, bad), "max_pool2d: sizes, strides and dilations are 1 or more"));
  CHECK(contains(message_of([&] { adaptive_mean_pool2d(Tensor::zeros(x), 0, 1); }), "the result 0 x 1"));
  CHECK(contains(message_of([&] { adaptive_mean_pool2d(Tensor::zeros({5, 7}), 1, 1); }), "x is (5, 7)"));
}

TEST_CASE("max_pool2d: the first of equal values gets the gradient, and NaN is the maximum") {
  const float nan = std::nanf("");
  for (const CpuIsa path : {CpuIsa::Plain, CpuIsa::Avx2, CpuIsa::Avx512}) {
    if (!available(path)) continue;
    const PathScope scope(path);
    // 20 windows of 2 x 2 in a row, so that whole vectors are among them.
    Tensor x = Tensor::zeros({1, 1, 2, 40});
    const auto v = x.span<float>();
    v[4] = v[45] = 3;                                        // window 2: the one above
    v[47] = nan;                                             // window 3
    v[49] = v[9] = nan;                                      // window 4: the first NaN, above
    for (size_t i : {10u, 11u, 50u, 51u}) v[i] = -INFINITY;  // window 5
    const Var leaf = Var::leaf(x);
    const Var y = max_pool2d(leaf, {2, 2}, {2, 2});
    CHECK(y.value.span<float>()[2] == 3);
    CHECK(std::isnan(y.value.span<float>()[3]));
    CHECK(std::isnan(y.value.span<float>()[4]));
    CHECK(y.value.span<float>()[5] == -INFINITY);
    Tensor dy({1, 1, 1, 20}, DType::F32);
    for (float& d : dy.span<float>()) d = 1;
    backward(y, dy);
    std::vector<float> expected(80, 0.0f);
    for (size_t window = 0; window < 20; ++window)
      expected[window == 3 ? 47 : window == 4 ? 9 : 2 * window] = 1;
    CHECK(floats_of(leaf.grad()) == expected);
  }
}
