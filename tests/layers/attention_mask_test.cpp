// Attention under masks, as layers offer it: PyTorch's values and gradients, and what is refused.
#include <cmath>

#include "engine/cuda/cuda.h"
#include "engine/safetensors.h"
#include "layers/attention.h"
#include "layers/linear.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

void check_equal(const std::string& what, const Tensor& found, const Tensor& expected, DType dtype,
                 int64_t length) {
  REQUIRE(found.shape() == expected.shape());
  const Tensor x = found.to(DType::F64), y = expected.to(DType::F64);
  check_close(what, x.span<double>(), y.span<double>(), dtype, length);
}

}  // namespace

TEST_CASE("masked attention equals PyTorch, forward and backward") {
  const TensorFile file = TensorFile::open(golden_path("attention_mask.safetensors"));
  struct Case {
    const char* name;
    int64_t heads;
    bool causal;
  };
  for (const Case& c : {Case{"self_causal", 2, true},
                        {"self_padded", 2, false},
                        {"self_both", 2, true},
                        {"few_queries_causal", 1, true},
                        {"few_keys_causal", 1, true},
                        {"cross_padded", 3, false}}) {
    const auto get = [&](const char* tensor) { return file.tensor(concat(c.name, ".", tensor)); };
    for (DType dtype : {DType::F64, DType::F32}) {
      CAPTURE(c.name);
      CAPTURE(name_of(dtype));
      const Mask mask{c.causal, file.has(concat(c.name, ".lengths")) ? get("lengths") : Tensor{}};
      const Var q = Var::leaf(get("q").to(dtype)), kv = Var::leaf(get("kv").to(dtype));
      const Var y = cross_attention(q, kv, c.heads, mask);
      backward(y, get("dy").to(dtype));
      check_equal("y", y.value, get("y"), dtype, 40);
      check_equal("dq", q.grad(), get("dq"), dtype, 40);
      check_equal("dkv", kv.grad(), get("dkv"), dtype, 40);
    }
  }
}

TEST_CASE("causal attention over 77 tokens equals torch.nn.MultiheadAttention") {
  const TensorFile file = TensorFile::open(golden_path("attention_mask.safetensors"));
  for (DType dtype : {DType::F64, DType::F32}) {
    CAPTURE(name_of(dtype));
    const auto leaf = [&](const char* name) {
      return Var::leaf(file.tensor(concat("text.", name)).to(dtype));
    };
    const Var x = leaf("x"), w = leaf("in_proj_weight"), b = leaf("in_proj_bias"),
              out_w = leaf("out_proj.weight"), out_b = leaf("out_proj.bias");
    const Var y = linear(self_attention(linear(x, w, b), 4, {.causal = true}), out_w, out_b);
    backward(y, leaf("dy").value);
    // The stored values are F32, whatever we compute in.
    const auto check = [&](const char* name, const Tensor& found) {
      check_equal(name, found, leaf(name).value, DType::F32, 4 * 77);
    };
    check("y", y.value), check("dx", x.grad());
    check("din_proj_weight", w.grad()), check("din_proj_bias", b.grad());
    check("dout_proj.weight", out_w.grad()), check("dout_proj.bias", out_b.grad());
  }
}

TEST_CASE("attention: an image without keys gives zeros, and gradients of zero") {
  const Var qkv = Var::leaf(Tensor({2, 3, 12}));
  for (float& v : qkv.value.span<float>()) v = 1;
  const Var y = self_attention(qkv, 2, {false, Tensor::from(std::vector<int32_t>{0, 2}, {2})});
  Tensor dy = like(y.value);
  for (float& v : dy.span<float>()) v = 1;
  backward(y, dy);
  const auto is_zero = [](const Tensor& x) {
    for (float v : x.span<float>())
      if (v != 0) return false;
    return true;
  };
  CHECK(is_zero(y.value.rows(0, 1)));
  CHECK(!is_zero(y.value.rows(1, 2)));
  CHECK(is_zero(qkv.grad().rows(0, 1)));
  CHECK(!is_zero(qkv.grad().rows(1, 2)));
}

TEST_CASE("attention refuses key lengths of another shape, type or device, and those outside the keys") {
  const Var qkv(Tensor::zeros({2, 3, 12})), kv(Tensor::zeros({2, 5, 8})), q(Tensor::zeros({2, 3, 4}));
  const auto self = [&](const Tensor& lengths) { return self_attention(qkv, 2, {false, lengths}); };
  const auto cross = [&](const Tensor& lengths) { return cross_attention(q, kv, 2, {true, lengths}); };
  const auto lengths = [](std::vector<int32_t> values) {
    const auto n = static_cast<int64_t>(values.size());
    return Tensor::from(values, {n});
  };
  CHECK_THROWS_WITH_AS(self(lengths({1})), doctest::Contains("key_lengths is I32 (1), wanted I32 (2)"),
                       Error);
  CHECK_THROWS_WITH_AS(self(lengths({1, 2}).reshape({2, 1})), doctest::Contains("key_lengths is I32 (2, 1)"),
                       Error);
  CHECK_THROWS_WITH_AS(cross(Tensor::zeros({2})), doctest::Contains("cross_attention: key_lengths is F32"),
                       Error);
  CHECK_THROWS_WITH_AS(self(lengths({4, 1})), doctest::Contains("a key length is 4, of 3 keys"), Error);
  CHECK_THROWS_WITH_AS(cross(lengths({5, -1})), doctest::Contains("a key length is -1, of 5 keys"), Error);
  CHECK_NOTHROW(cross(lengths({5, 0})));
  if (cuda::available())
    CHECK_THROWS_WITH_AS(self(lengths({1, 2}).to(cuda_device)), doctest::Contains("key_lengths is on cuda"),
                         Error);
}

}  // namespace qfm::test
