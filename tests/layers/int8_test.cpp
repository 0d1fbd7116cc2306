// Layers in INT8: who quantises, and how near a transformer stays to the same weights in F32.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "engine/base/rng.h"
#include "engine/packed_weight.h"
#include "kernels/attention/attention_int8.h"
#include "layers/attention.h"
#include "layers/layernorm.h"
#include "layers/mlp.h"
#include "models/backbones/vit.h"
#include "tests/scopes.h"

namespace qfm::test {
namespace {

Tensor numbers(Shape shape, uint32_t index, double spread = 1) {
  Tensor x(shape);
  Rng rng(3, "int8", index);
  for (float& v : x.span<float>()) v = static_cast<float>(spread * static_cast<double>(rng.normal()));
  return x;
}
bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

struct Vits {
  VitConfig config;
  ParamSet wide, narrow;
  Vit f32, int8;
  Vits() : config(small()), f32(wide, config), int8(narrow, config) {
    wide.allocate(cpu_device, DType::F32, false), narrow.allocate(cpu_device, DType::I8, false);
    narrow.initialise(1), narrow.pack();  // which rounds the weights
    wide.initialise(1);
    for (const Param& p : wide.params())
      if (p.decay()) copy_from_int8(p.master(), to_int8(p.master(), p.name()));
  }
  static VitConfig small() {
    VitConfig c;
    c.image_height = c.image_width = 64, c.width = 48, c.depth = 3, c.heads = 3, c.layer_scale = true;
    c.layer_scale_init = 1;
    return c;
  }
};

}  // namespace

TEST_CASE("INT8 layers: what a product of 8-bit numbers reads is quantised where it is made, without a graph") {
  const Tensor x = numbers({2, 5, 24}, 0), w1 = numbers({30, 24}, 1, 0.2), w2 = numbers({24, 30}, 2, 0.2);
  const Var gain(numbers({24}, 3)), bias(numbers({24}, 4)), b1(numbers({30}, 5)), qkv(numbers({2, 5, 72}, 6));
  const Tensor normed = layernorm(Var(x), gain, bias, 1e-6).value, attended({2, 5, 24});
  CHECK(same_bits(layernorm(Var(x), gain, bias, 1e-6, w1).value, normed));  // not packed yet
  pack_weight_int8(w1, to_int8(w1, "w1")), pack_weight_int8(w2, to_int8(w2, "w2"));
  CHECK(same_bits(layernorm(Var(x), gain, bias, 1e-6, w1).value, quantised(normed)));
  CHECK(same_bits(residual_layernorm({}, {}, Var(x), gain, bias, 1e-6, w1).y.value, quantised(normed)));
  const ResidualNorm summed = residual_layernorm(Var(x), gain, Var(x), gain, bias, 1e-6),
                     in_int8 = residual_layernorm(Var(x), gain, Var(x), gain, bias, 1e-6, w1);
  CHECK(same_bits(in_int8.sum.value, summed.sum.value));
  CHECK(same_bits(in_int8.y.value, quantised(summed.y.value)));
  const float* const rows = qkv.value.data<float>();
  attention_forward_int8(Cpu{}, {2, 2, 5, 5, 12}, {attended.data<float>(), 24}, {rows, 72}, {rows + 24, 72},
                         {rows + 48, 72});
  CHECK(same_bits(self_attention(qkv, 2, {}, w1).value, quantised(attended)));

  const Tensor hidden = linear_forward(quantised(x), w1, {b1.value, {}, {}, true});
  CHECK(same_bits(linear_forward(x, w1, {b1.value, {}, {}, true}), hidden));
  const Tensor y = linear_forward(quantised(hidden), w2, {bias.value, {}, {}});
  CHECK(same_bits(mlp(Var(x), Var(w1), b1, Var(w2), bias).value, y));
  const Var leaf = Var::leaf(x);
  CHECK(layernorm(leaf, gain, bias, 1e-6, w1).value.dtype() == DType::F32);
  CHECK(residual_layernorm(leaf, gain, Var(x), gain, bias, 1e-6, w1).y.value.dtype() == DType::F32);
  CHECK(self_attention(Var::leaf(qkv.value), 2, {}, w1).value.dtype() == DType::F32);
  CHECK_THROWS_AS(linear_forward(quantised(qkv.value), w1), Error);
}

TEST_CASE("INT8: a transformer stays near F32, with the same bits for any number of threads and alone") {
  const Vits vits;
  const Tensor images = numbers({3, 3, 64, 64}, 7);
  const NoGrad inference;
  const Tensor expected = vits.f32.tokens(Var(images)).value, found = vits.int8.tokens(Var(images)).value;
  double error = 0, size = 0;
  for (int64_t i = 0; i < found.numel(); ++i) {
    const double e = expected.data<float>()[i], d = found.data<float>()[i] - e;
    error += d * d, size += e * e;
  }
  CHECK(std::sqrt(error / size) > 1e-4);
  CHECK(std::sqrt(error / size) < 0.02);
  CHECK(same_bits(vits.int8.tokens(Var(images.rows(1, 2))).value, found.rows(1, 2)));
  ThreadScope one(1);
  CHECK(same_bits(vits.int8.tokens(Var(images)).value, found));
}

}  // namespace qfm::test
