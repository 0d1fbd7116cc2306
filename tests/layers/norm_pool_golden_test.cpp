// Batch normalisation and pooling against PyTorch's values and gradients, made by tests/golden/make_norm_pool.py: 1e-10 of
// the largest in F64; in F32 by the project's tolerance.
#include "engine/cuda/cuda.h"
#include "engine/safetensors.h"
#include "layers/batchnorm.h"
#include "layers/pool2d.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace qfm::test::norm_pool {
namespace {

struct Place {
  DType dtype;
  Device device;
};
std::vector<Place> places() {
  std::vector<Place> all{{DType::F64, cpu_device}, {DType::F32, cpu_device}};
  if (cuda::available()) all.push_back({DType::F32, cuda_device});
  return all;
}

class Golden {
 public:
  Golden(const TensorFile& file, std::string name, Place place)
      : file_(file), name_(std::move(name)), place_(place) {}
  bool has(const std::string& what) const { return file_.has(name_ + "." + what); }
  Tensor get(const std::string& what) const {
    return file_.tensor(name_ + "." + what).to(place_.dtype).to(place_.device);
  }
  Golden of(const std::string& part) const { return {file_, name_ + "." + part, place_}; }
  // length: terms in the longest sum.
  void check(const std::string& what, const Tensor& found, int64_t length) const {
    const std::string all = name_ + "." + what;
    CAPTURE(all);
    const Tensor got = found.to(cpu_device).to(DType::F64), expected = file_.tensor(all);
    REQUIRE(got.shape() == expected.shape());
    const auto a = got.span<double>(), b = expected.span<double>();
    if (found.dtype() == DType::F64) {
      double worst = 0;
      for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::fabs(a[i] - b[i]));
      CHECK(worst <= 1e-10 * largest(b));
    } else {
      check_close(all, a, b, DType::F32, length);
    }
  }

 private:
  const TensorFile& file_;
  std::string name_;
  Place place_;
};

// Three training steps, then an evaluation: each step's values and gradients, and what the running statistics became.
// Numbers far from zero have lost digits before they come: `length` allows for them.
void check_batchnorm(const Golden& g, Activation activation, int64_t length) {
  const Tensor w = g.get("weight"), b = g.get("bias");
  const Tensor mean = Tensor::zeros(w.shape(), DType::F32, w.device());
  const Tensor var =
      Tensor::from(std::vector<float>(static_cast<size_t>(w.numel()), 1.0f), w.shape()).to(w.device());
  for (const char* step : {"0", "1", "2", "eval"}) {
    const Golden s = g.of(step);
    const Var x = Var::leaf(s.get("x")), residual = s.has("residual") ? Var::leaf(s.get("residual")) : Var();
    const auto parameter = [](const Tensor& t) {
      return Var::parameter(t, Tensor::zeros(t.shape(), acc_of(t.dtype()), t.device()));
    };
    const Var weight = parameter(w), bias = parameter(b);
    const bool trains = std::string(step) != "eval";
    const Var y = trains ? batchnorm(x, weight, bias, mean, var, 1e-5, 0.1, activation, residual)
                         : batchnorm_fixed(x, weight, bias, mean, var, 1e-5, activation, residual);
    backward(y, s.get("dy"));
    // The running statistics are F32, so what is normalised by them is no closer to PyTorch's F64.
    if (!trains && y.value.dtype() == DType::F64) {
      check_close("evaluation", y.value.span<double>(), s.get("y").span<double>(), DType::F32, length);
      check_close("evaluation", x.grad().span<double>(), s.get("dx").span<double>(), DType::F32, length);
      continue;
    }
    s.check("y", y.value, length);
    s.check("dx", x.grad(), length);
    s.check("dweight", weight.grad(), length);
    s.check("dbias", bias.grad(), length);
    if (s.has("residual")) s.check("dresidual", residual.grad(), 1);
  }
  g.check("running_mean", mean, 40);
  g.check("running_var", var, length);
}

TEST_CASE("batchnorm: training steps, running statistics and evaluation equal PyTorch's") {
  const TensorFile file = TensorFile::open(golden_path("norm_pool.safetensors"));
  for (const Place& place : places()) {
    check_batchnorm({file, "bn", place}, Activation::None, 40);
    check_batchnorm({file, "bn_far", place}, Activation::None, 40 * 30 * 30);
    check_batchnorm({file, "bn_relu", place}, Activation::Relu, 40);
    check_batchnorm({file, "bn_relu6", place}, Activation::Relu6, 40);
    check_batchnorm({file, "bn_silu", place}, Activation::Silu, 40);
  }
}

TEST_CASE("pooling equals PyTorch's, forward and backward") {
  const TensorFile file = TensorFile::open(golden_path("norm_pool.safetensors"));
  const Window three{3, 2, 1, 1};
  const std::vector<std::pair<std::string, std::function<Var(const Var&)>>> pools{
      {"max", [&](const Var& x) { return max_pool2d(x, three, three); }},
      {"max_dilated",
       [](const Var& x) {
         return max_pool2d(x, {2, 2, 0, 0, 3}, {3, 1, 1, 1, 2});
       }},
      {"mean", [&](const Var& x) { return mean_pool2d(x, three, three); }},
      {"mean_inside", [&](const Var& x) { return mean_pool2d(x, three, three, false); }},
      {"adaptive_1x1", [](const Var& x) { return adaptive_mean_pool2d(x, 1, 1); }},
      {"adaptive_4x3", [](const Var& x) { return adaptive_mean_pool2d(x, 4, 3); }},
      {"adaptive_13x5", [](const Var& x) { return adaptive_mean_pool2d(x, 13, 5); }}};
  for (const Place& place : places())
    for (const auto& [name, pool] : pools) {
      const Golden g(file, name, place);
      const Var x = Var::leaf(g.get("x")), y = pool(x);
      g.check("y", y.value, 99);
      backward(y, g.get("dy"));
      g.check("dx", x.grad(), 20);
    }
}

}  // namespace
}  // namespace qfm::test::norm_pool
