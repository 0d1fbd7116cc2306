// What is fused against its composition of the algebra, forward and backward, on the CPU.
#include <cmath>

#include "layers/attention.h"
#include "layers/layernorm.h"
#include "layers/linear.h"
#include "layers/loss.h"
#include "layers/mlp.h"
#include "layers/noise.h"
#include "layers/pointwise.h"
#include "layers/reduce.h"
#include "layers/shape.h"
#include "layers/similarity.h"
#include "tests/layers/op_cases.h"
#include "tests/scopes.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

Var product(const Var& a, const Var& weight, const Var& bias) {  // a (M, K), weight (N, K)
  const Var y = sum(reshape(a, {a.dim(0), 1, a.dim(1)}) * weight, {-1});
  return bias.value.empty() ? y : y + bias;
}

Var normalised(const Var& a, const Var& gain, const Var& bias, double eps) {
  const Var centred = a - mean(a, {-1}, true);
  return centred / sqrt(mean(centred * centred, {-1}, true) + eps) * gain + bias;
}

Var length(const Var& a) { return sqrt(sum(a * a, {-1}, true)); }

// softmax(q k^T / sqrt(d)) v of a packed qkv (B, S, 3 H d).
Var attention(const Var& qkv, int64_t heads) {
  const int64_t b = qkv.dim(0), s = qkv.dim(1), d = qkv.dim(2) / (3 * heads);
  const Var parts = permute(reshape(qkv, {b, s, 3, heads, d}), {2, 0, 3, 1, 4});  // (3, B, H, S, d)
  const auto part = [&](int64_t i) { return reshape(slice(parts, 0, i, i + 1), {b, heads, s, d}); };
  const Var q = reshape(part(0), {b, heads, s, 1, d}), k = reshape(part(1), {b, heads, 1, s, d});
  const Var scores = sum(q * k, {-1}) / std::sqrt(static_cast<double>(d));  // (B, H, S, S)
  const Var p = exp(scores - max(scores, {-1}, true)), share = p / sum(p, {-1}, true);
  const Var o = sum(reshape(share, {b, heads, s, s, 1}) * reshape(part(2), {b, heads, 1, s, d}), {3});
  return reshape(permute(o, {0, 2, 1, 3}), {b, s, heads * d});
}

Var huber(const Var& a, const Var& b) {
  const Var d = relu(a - b) + relu(b - a), small = d - relu(d - 1.0);
  return mean(small * d - small * small / 2.0);
}

struct Formula {
  OpCase fused;
  std::function<Var(const In&)> formula;
};

std::vector<Formula> formulas() {
  const Tensor ids = Tensor::from(std::vector<int32_t>{3, 0, 12, 3, 7}, {5});
  return {
      {{"attention", {x({2, 7, 3 * 2 * 5})}, [](const In& v) { return self_attention(v[0], 2); }, 35},
       [](const In& v) { return attention(v[0], 2); }},
      {{"linear", {x({7, 13}), w({5, 13}), w({5}), x({7, 5})}, [](const In& v) { return linear(v[0], v[1], v[2], v[3]); }, 13},
       [](const In& v) { return product(v[0], v[1], v[2]) + v[3]; }},
      {{"mlp",
        {x({7, 5}), w({20, 5}), w({20}), w({5, 20}), w({5}), x({7, 5})},
        [](const In& v) { return mlp(v[0], v[1], v[2], v[3], v[4], v[5]); },
        100},
       [](const In& v) { return product(gelu(product(v[0], v[1], v[2])), v[3], v[4]) + v[5]; }},
      {{"layernorm", {x({7, 13}), w({13}), w({13})}, [](const In& v) { return layernorm(v[0], v[1], v[2], 1e-6); }, 13},
       [](const In& v) { return normalised(v[0], v[1], v[2], 1e-6); }},
      {{"residual_layernorm",
        {x({7, 13}), w({13}), x({7, 13}), w({13}), w({13})},
        [](const In& v) {
          const auto [sum, y] = residual_layernorm(v[0], v[1], v[2], v[3], v[4], 1e-6);
          return y * sum;
        },
        13},
       [](const In& v) {
         const Var stream = v[2] + v[1] * v[0];
         return normalised(stream, v[3], v[4], 1e-6) * stream;
       }},
      {{"softmax", {x({7, 13})}, [](const In& v) { return softmax(v[0]); }, 13},
       [](const In& v) { return exp(v[0]) / sum(exp(v[0]), {-1}, true); }},
      {{"cross_entropy", {x({5, 13})}, [ids](const In& v) { return cross_entropy(v[0], ids); }, 65},
       [](const In& v) {
         const Var p = reshape(softmax(v[0]), {65});
         Var total;
         for (const int64_t at : {3, 13, 38, 42, 59}) {
           const Var one = log(slice(p, 0, at, at + 1));
           total = total.value.empty() ? one : total + one;
         }
         return total / -5.0;
       }},
      {{"l2norm", {x({7, 13})}, [](const In& v) { return l2norm(v[0]); }, 13},
       [](const In& v) { return v[0] / length(v[0]); }},
      {{"cosine", {x({7, 13}), x({7, 13})}, [](const In& v) { return cosine(v[0], v[1]); }, 13},
       [](const In& v) { return sum(v[0] / length(v[0]) * (v[1] / length(v[1])), {-1}); }},
      {{"smooth_l1",
        {x({91}), fixed({91})},
        [](const In& v) { return smooth_l1(v[0], v[1].value); },
        91},
       [](const In& v) { return huber(v[0], v[1]); }},
      {{"gelu", {x({7, 13})}, [](const In& v) { return gelu(v[0]); }, 1},
       [](const In& v) { return v[0] * (erf(v[0] / std::sqrt(2.0)) + 1.0) / 2.0; }},
      {{"silu", {x({7, 13})}, [](const In& v) { return silu(v[0]); }, 1}, [](const In& v) { return v[0] * sigmoid(v[0]); }},
      {{"tanh", {x({7, 13})}, [](const In& v) { return tanh(v[0]); }, 1},
       [](const In& v) { return 2.0 * sigmoid(2.0 * v[0]) - 1.0; }},
      {{"relu6", {{{7, 13}, false, true, 4, 3}}, [](const In& v) { return relu6(v[0]); }, 1},
       [](const In& v) { return relu(v[0]) - relu(v[0] - 6.0); }},
  };
}

TEST_CASE("what is fused equals its formula, forward and backward") {
  for (const DType dtype : {DType::F64, DType::F32})
    for (const Formula& f : formulas()) {
      CAPTURE(f.fused.name);
      CAPTURE(name_of(dtype));
      OpCase composed = f.fused;
      composed.build = f.formula;
      const auto got = run(f.fused, dtype), expected = run(composed, dtype);
      for (size_t i = 0; i < got.size(); ++i) {
        CAPTURE(i);
        if (!expected[i].empty())
          check_close(f.fused.name, got[i].span<double>(), expected[i].span<double>(), dtype, f.fused.reduction * 13);
      }
    }
}

TEST_CASE("the algebra refuses what does not fit, in one line") {
  const Var a(Tensor::zeros({2, 3})), b(Tensor::zeros({4})), c(Tensor::zeros({2, 3}, DType::F64));
  const auto says = [](const std::string& text, const std::function<void()>& f) { CHECK_MESSAGE(contains(message_of(f), text), text); };
  says("add: (2, 3) and (4) do not broadcast", [&] { a + b; });
  says("multiply: operands are F32 on cpu and F64 on cpu", [&] { a * c; });
  says("sum: (2, 3) has no axis 2", [&] { sum(a, {2}); });
  says("sum: axis -1 is named twice", [&] { sum(a, {1, -1}); });
  says("mean: (0, 3) has nothing", [&] { mean(Var(Tensor::zeros({0, 3})), {0}); });
  says("max: (0, 3) has nothing", [&] { max(Var(Tensor::zeros({0, 3})), {0}); });
  says("slice: axis 1 of (2, 3) has no elements 1 to 4", [&] { slice(a, 1, 1, 4); });
  says("concat: (4) does not go with (2, 3)", [&] { concat({a, b}, 0); });
  says("permute: that is no order of the axes of (2, 3)", [&] { permute(a, {0, 0}); });
  says("expand: (2, 3) does not broadcast to (2, 4)", [&] { expand(a, Shape{2, 4}); });
  const auto ids = [](std::vector<int32_t> v) { return Tensor::from(v, {static_cast<int64_t>(v.size())}); };
  says("embedding: id 2 at place 1 is not in [0, 2)", [&] { embedding(a, ids({1, 2})); });
  says("embedding: id -1 at place 0", [&] { embedding(a, ids({-1})); });
  says("embedding: ids are F32", [&] { embedding(a, Tensor::zeros({2})); });
  says("cross_entropy: id 3 of row 1 is not in [0, 3)", [&] { cross_entropy(a, ids({0, 3})); });
}

TEST_CASE("noise of no length has the factor 0") {
  const auto numbers = [](std::vector<float> v) { return Tensor::from(v, {3}); };
  const Tensor factor = noise_factor(numbers({2, 3, -1}), numbers({4, 5, 6}), numbers({8, 0, 3}));
  CHECK(factor.span<float>()[0] == 1.0f);
  CHECK(factor.span<float>()[1] == 0.0f);
  CHECK(factor.span<float>()[2] == -2.0f);
}

TEST_CASE("a maximum passes NaN on, and equal maxima share the gradient") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (const CpuIsa isa : {CpuIsa::Plain, CpuIsa::Avx2, CpuIsa::Avx512}) {
    if (!available(isa)) continue;
    const PathScope scope(isa);
    for (const int64_t at : {0, 1, 2}) {
      std::vector<float> values{1, 5, 3};
      values[static_cast<size_t>(at)] = nan;
      CHECK(std::isnan(max(Var(Tensor::from(values, {3}))).value.span<float>()[0]));
    }
    const Var v = Var::leaf(Tensor::from(std::vector<float>{5, 1, 5}, {3}));
    backward(max(v));
    CHECK(v.grad().span<float>()[0] == 0.5f);
    CHECK(v.grad().span<float>()[1] == 0.0f);
    CHECK(v.grad().span<float>()[2] == 0.5f);
  }
}

}  // namespace
}  // namespace qfm::test
