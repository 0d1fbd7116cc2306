// Values and gradients of PyTorch and timm: single operations, both ViT conventions, the decoder, real
// weights. Errors are scaled: largest difference over the largest value of the reference. Bounds are those of
// the golden files' own description: 1e-10 in F64; in F32 ten times what PyTorch itself loses in F32 on the
// same inputs.
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/safetensors.h"
#include "layers/pointwise.h"
#include "layers/attention.h"
#include "layers/layernorm.h"
#include "layers/linear.h"
#include "layers/loss.h"
#include "layers/patch_embed.h"
#include "layers/qfm_losses.h"
#include "layers/similarity.h"
#include "layers/reduce.h"
#include "layers/shape.h"
#include "models/backbones/vit.h"
#include "engine/load_params.h"
#include "models/checkpoint.h"
#include "models/heads/query_decoder.h"
#include "tests/support.h"
#include "tests/tolerance.h"

using namespace qfm;
using namespace qfm::test;
using nlohmann::json;

namespace {

// Largest difference over elements for which `counts(i)`.
template <class Counts>
double difference(const Tensor& a, const Tensor& b, Counts&& counts) {
  const auto x = a.span<double>(), y = b.span<double>();
  double m = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!counts(i)) continue;
    if (!std::isfinite(x[i])) return INFINITY;
    m = std::max(m, std::fabs(x[i] - y[i]));
  }
  return m;
}

double scaled_error(const Tensor& got, const Tensor& expected) {
  REQUIRE(got.shape() == expected.shape());
  const Tensor a = got.to(DType::F64), b = expected.to(DType::F64);
  return difference(a, b, [](size_t) { return true; }) / std::max(largest(b.span<double>()), 1e-300);
}

// ---- single operations ----

// (B, H, N, d) <-> (B, N, H d): the golden attention is per head, ours reads packed tokens.
Tensor to_tokens(const Tensor& x) {
  const int64_t b = x.dim(0), h = x.dim(1), n = x.dim(2), d = x.dim(3);
  Tensor y({b, n, h * d}, DType::F64);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const int64_t c = i % d, t = i / d % n, head = i / (d * n) % h, image = i / (d * n * h);
    y.data<double>()[(image * n + t) * h * d + head * d + c] = x.data<double>()[i];
  }
  return y;
}

Tensor join_last(const Tensor& a, const Tensor& b) {
  const auto m = as_matrix(a);
  Tensor y({a.dim(0), a.dim(1), 2 * m.cols}, DType::F64);
  for (int64_t r = 0; r < m.rows; ++r)
    for (int64_t c = 0; c < m.cols; ++c) {
      y.data<double>()[r * 2 * m.cols + c] = a.data<double>()[r * m.cols + c];
      y.data<double>()[r * 2 * m.cols + m.cols + c] = b.data<double>()[r * m.cols + c];
    }
  return y;
}

struct GoldenCase {
  const TensorFile& file;
  std::string name;
  json attributes;
  Tensor get(const std::string& tensor) const { return file.tensor(name + "." + tensor); }
  bool has(const std::string& tensor) const { return file.has(name + "." + tensor); }
  Var var(const std::string& tensor) const { return has(tensor) ? Var::leaf(get(tensor)) : Var(); }
};

struct Computed {
  Var y;
  std::vector<std::pair<std::string, Var>> inputs;  // golden name, leaf
};

Computed compute(const GoldenCase& c) {
  const std::string op = c.name.substr(0, c.name.find('.'));
  const auto in = [&](std::initializer_list<const char*> names) {
    std::vector<std::pair<std::string, Var>> v;
    for (const char* n : names) v.emplace_back(n, c.var(n));
    return v;
  };
  const auto with = [](std::vector<std::pair<std::string, Var>> v, auto&& f) {
    Var y = f(v);
    return Computed{y, std::move(v)};
  };
  using V = const std::vector<std::pair<std::string, Var>>&;
  if (op == "linear")
    return with(in({"x", "w", "b"}), [](V v) { return linear(v[0].second, v[1].second, v[2].second); });
  if (op == "layernorm")
    return with(in({"x", "w", "b"}),
                [&](V v) { return layernorm(v[0].second, v[1].second, v[2].second, c.attributes["eps"]); });
  if (op == "gelu") return with(in({"x"}), [](V v) { return gelu(v[0].second); });
  if (op == "sigmoid") return with(in({"x"}), [](V v) { return sigmoid(v[0].second); });
  if (op == "softmax") return with(in({"x"}), [](V v) { return softmax(v[0].second); });
  if (op == "patch_embed")
    return with(in({"x", "w", "b"}), [](V v) { return patch_embed(v[0].second, v[1].second, v[2].second); });
  if (op == "layerscale")
    return with(in({"x", "gamma"}), [](V v) {
      const Tensor &x = v[0].second.value, c = v[1].second.value;
      const Var zeros(Tensor::zeros(x.shape(), x.dtype())), w(c);
      return residual_layernorm(v[0].second, v[1].second, zeros, w, w, 1e-6).sum;
    });
  if (op == "mean_tokens") return with(in({"x"}), [](V v) { return mean(v[0].second, {1}); });
  if (op == "cosine") return with(in({"a", "b"}), [](V v) { return cosine(v[0].second, v[1].second); });
  if (op == "l2norm") return with(in({"x"}), [](V v) { return l2norm(v[0].second); });
  if (op == "smooth_l1")
    return with(in({"pred"}), [&](V v) { return smooth_l1(v[0].second, c.get("target")); });
  if (op == "mse")  // smooth_l1 with a beta that no difference reaches
    return with(in({"pred"}), [&](V v) {
      return weighted_sum({{smooth_l1(v[0].second, c.get("target"), 1e3), 2e3}});
    });
  if (op == "add_broadcast")
    return with(in({"x", "p"}), [](V v) { return v[0].second + v[1].second; });
  if (op == "concat_cls")
    return with(in({"cls", "patches"}), [](V v) {
      return concat({expand(v[0].second, {v[1].second.dim(0), 1, v[1].second.dim(2)}), v[1].second}, 1);
    });
  if (op == "slice_cls")
    return with(in({"x"}), [](V v) {
      return reshape(slice(v[0].second, 1, 0, 1), {v[0].second.dim(0), v[0].second.dim(2)});
    });
  if (op == "slice_patches")
    return with(in({"x"}), [](V v) { return slice(v[0].second, 1, 1, v[0].second.dim(1)); });
  FAIL("golden case ", c.name, " is not covered");
  return {};
}

// 1e-10 scaled; 1e-9 where the golden description asks for it; absolute 1e-12 where a gradient is mathematically zero.
void check_f64(const std::string& what, const Tensor& got, const Tensor& expected) {
  CAPTURE(what);
  const bool loose =
      what.find("offset") != std::string::npos || what.find("l2norm") == 0 || what.find("cosine") == 0;
  const Tensor g = got.to(DType::F64), e = expected.to(DType::F64);
  REQUIRE(g.shape() == e.shape());
  CHECK(difference(g, e, [](size_t) { return true; }) <=
        std::max(largest(e.span<double>()) * (loose ? 1e-9 : 1e-10), 1e-12));
}

void check_sdpa(const GoldenCase& c) {
  const Var q = Var::leaf(to_tokens(c.get("q"))),
            kv = Var::leaf(join_last(to_tokens(c.get("k")), to_tokens(c.get("v"))));
  const Var y = cross_attention(q, kv, c.get("q").dim(1));
  check_f64(c.name, y.value, to_tokens(c.get("y")));
  backward(y, to_tokens(c.get("dy")));
  check_f64(c.name + ".dq", q.grad(), to_tokens(c.get("dq")));
  check_f64(c.name + ".dkv", kv.grad(), join_last(to_tokens(c.get("dk")), to_tokens(c.get("dv"))));
}

// ---- models ----

struct Bounds {
  double out, grad;
};
Bounds ten_times(const TensorFile& file) {
  const json j = json::parse(file.metadata().at("float32_run_scaled_error"));
  return {10 * j.at("out").get<double>(), 10 * j.at("grad").get<double>()};
}

// Key biases have no gradient (an offset of all keys moves no probability): theirs is compared with zero,
// against the size of the other two thirds.
double gradient_error(const std::string& name, const Tensor& got, const Tensor& expected) {
  const Tensor g = got.to(DType::F64), e = expected.to(DType::F64);
  REQUIRE(g.shape() == e.shape());
  const bool packed =
      name.find("qkv.bias") != std::string::npos || name.find("in_proj_bias") != std::string::npos;
  const auto third = static_cast<size_t>(g.numel() / 3);
  const auto is_key = [&](size_t i) { return packed && i >= third && i < 2 * third; };
  return difference(g, e, [&](size_t i) { return !is_key(i); }) / std::max(largest(e.span<double>()), 1e-300);
}

void load_golden(ParamSet& params, const TensorFile& file) {
  for (const Param& p : params.params()) p.master().copy_from(file.tensor(p.name()).to(p.master().dtype()));
  params.sync();
}

void check_vit(const std::string& path, DType dtype) {
  const TensorFile file = TensorFile::open(path);
  const json j = json::parse(file.metadata().at("config"));
  VitConfig c;
  c.image_height = j["img_size"][0], c.image_width = j["img_size"][1], c.width = j["embed_dim"],
  c.depth = j["depth"];
  c.heads = j["num_heads"], c.layer_scale = j["layer_scale"], c.pos_embed_on_cls = j["pos_embed_on_cls"];
  ParamSet params;
  const Vit vit(params, c);
  params.allocate(cpu_device, dtype, true);
  load_golden(params, file);
  // In F64 what remains is the rounding of the stored results to F32.
  const Bounds bounds = dtype == DType::F64 ? Bounds{1e-6, 1e-6} : ten_times(file);
  const Var input = Var::leaf(file.tensor("input").to(dtype));
  const Var tokens = vit.embed(input);
  CHECK(scaled_error(tokens.value, file.tensor("out.embed")) <= bounds.out);
  ResidualNorm stream = vit.norm_before(0)({}, {}, tokens);
  for (size_t i = 0; i < vit.blocks.size(); ++i) {
    stream = vit.blocks[i](stream, vit.norm_before(i + 1));
    CHECK(scaled_error(stream.sum.value, file.tensor(concat("out.block", i))) <= bounds.out);
  }
  const Var x = stream.y;
  CHECK(scaled_error(x.value, file.tensor("out.norm")) <= bounds.out);
  backward(x, file.tensor("dy").to(dtype));
  CHECK(scaled_error(input.grad(), file.tensor("grad.input")) <= bounds.grad);
  for (const Param& p : params.params()) {
    CAPTURE(p.name());
    CHECK(gradient_error(p.name(), p.grad(), file.tensor("grad." + p.name())) <= bounds.grad);
  }
}

}  // namespace

TEST_CASE("single operations equal PyTorch in F64, forward and backward") {
  const TensorFile file = TensorFile::open(golden_path("ops.safetensors"));
  const json cases = json::parse(file.metadata().at("cases"));
  for (const auto& [name, attributes] : cases.items()) {
    const GoldenCase c{file, name, attributes};
    CAPTURE(name);
    if (name.rfind("sdpa.", 0) == 0) {
      check_sdpa(c);
      continue;
    }
    const Computed r = compute(c);
    check_f64(name, r.y.value, c.get("y"));
    if (!c.has("dy")) continue;
    backward(r.y, c.get("dy"));
    for (const auto& [input, leaf] : r.inputs)
      if (leaf.needs_grad()) check_f64(name + ".d" + input, leaf.grad(), c.get("d" + input));
  }
}

TEST_CASE("ViT of both conventions equals timm: every activation, every gradient") {
  for (const char* name : {"vit_deit1.safetensors", "vit_deit3.safetensors"})
    for (DType dtype : {DType::F64, DType::F32}) {
      CAPTURE(name);
      CAPTURE(name_of(dtype));
      check_vit(golden_path(name), dtype);
    }
}

TEST_CASE("the query decoder equals torch.nn.TransformerDecoderLayer") {
  const TensorFile file = TensorFile::open(golden_path("deiqt_decoder.safetensors"));
  for (DType dtype : {DType::F64, DType::F32}) {
    CAPTURE(name_of(dtype));
    ParamSet params;
    const QueryDecoder decoder(params, {}, FeatureShape{0, 0, 48, 0, 0});
    params.allocate(cpu_device, dtype, true);
    load_golden(params, file);
    const Bounds bounds = dtype == DType::F64 ? Bounds{1e-6, 1e-6} : ten_times(file);
    const Var cls = Var::leaf(file.tensor("cls").to(dtype)),
              patches = Var::leaf(file.tensor("patches").to(dtype));
    const Scores out = decoder({cls, patches, {}});
    CHECK(scaled_error(out.tokens.value, file.tensor("out.decoder")) <= bounds.out);
    CHECK(scaled_error(out.members.value, file.tensor("out.judges")) <= bounds.out);
    CHECK(scaled_error(out.score.value, file.tensor("out.score")) <= bounds.out);
    backward(out.score, file.tensor("dscore").to(dtype));
    CHECK(scaled_error(cls.grad(), file.tensor("grad.cls")) <= bounds.grad);
    CHECK(scaled_error(patches.grad(), file.tensor("grad.patches")) <= bounds.grad);
    for (const Param& p : params.params()) {
      CAPTURE(p.name());
      CHECK(gradient_error(p.name(), p.grad(), file.tensor("grad." + p.name())) <= bounds.grad);
    }
  }
}

TEST_CASE("DeiT-Tiny on two photos: every listed depth, the logits and gradients") {
  const std::string golden = shared_path("golden/deit_tiny_real.safetensors");
  const std::string weights = shared_path("weights/deit_tiny_patch16_224.safetensors");
  if (golden.empty() || weights.empty()) QFM_SKIP("the real weights are not here");
  const TensorFile file = TensorFile::open(golden), timm = TensorFile::open(weights);
  ParamSet params;
  const Vit vit(Scope(params) / "vit", *vit_named("vit-tiny", "deit"));
  params.allocate(cpu_device, DType::F32, true);
  load_params(params, timm, "vit.", [](const std::string& name) { return name.rfind("head.", 0) == 0; });
  const Bounds bounds{2e-4, 8e-4};

  const Var input = Var::leaf(file.tensor("input"));
  const auto image0 = [](const Var& x) { return x.value.rows(0, 1); };
  const Var tokens = vit.embed(input);
  CHECK(scaled_error(image0(tokens), file.tensor("out.embed")) <= bounds.out);
  ResidualNorm stream = vit.norm_before(0)({}, {}, tokens);
  for (size_t i = 0; i < vit.blocks.size(); ++i) {
    stream = vit.blocks[i](stream, vit.norm_before(i + 1));
    const std::string name = concat("out.block", i);
    if (file.has(name)) CHECK(scaled_error(image0(stream.sum), file.tensor(name)) <= bounds.out);
  }
  const Var x = stream.y;
  CHECK(scaled_error(x.value, file.tensor("out.norm")) <= bounds.out);
  const Var cls = reshape(slice(x, 1, 0, 1), {2, 192});
  const Var logits = linear(cls, timm.tensor("head.weight"), timm.tensor("head.bias"));
  CHECK(scaled_error(logits.value, file.tensor("logits")) <= bounds.out);

  Tensor dy({2, 192});
  for (int64_t i = 0; i < 2; ++i) dy.rows(i, i + 1).copy_from(file.tensor("v").reshape({1, 192}));
  backward(cls, dy);
  CHECK(scaled_error(input.grad().rows(0, 1), file.tensor("grad.input")) <= bounds.grad);
  for (const Param& p : params.params()) {
    const std::string name = "grad." + p.name().substr(4);
    CAPTURE(name);
    if (file.has(name)) CHECK(scaled_error(p.grad(), file.tensor(name)) <= bounds.grad);
  }
}

TEST_CASE("a position embedding of another grid is resampled as timm's resample_abs_pos_embed does") {
  // A CLS row and a 4 x 4 grid of one channel; timm 1.0.31, bicubic, antialiased.
  const Tensor pos =
      Tensor::from(std::vector<float>{-1.125, -1.6875, 0.5625, 0.8125, 0.625, -1.5625, -0.3125, 1.875, 0.4375,
                                      -0.5625, -0.1875, 0.1875, 1.375, 1.5625, 0.9375, -0.8125, 0.9375},
                   {1, 17, 1});
  const auto check = [&](int64_t rows, int64_t cols, const std::vector<double>& expected) {
    const Tensor got = interpolate_pos_embed(pos, rows, cols, true);
    REQUIRE(got.shape() == Shape{1, rows * cols + 1, 1});
    for (size_t i = 0; i < expected.size(); ++i)
      CHECK(got.span<float>()[i] == doctest::Approx(expected[i]).epsilon(2e-6));
  };
  check(6, 3,
        {-1.125, -1.1304106, 0.7665561, 0.6703602, -1.3075786, 0.8747649, 0.7840557, -1.3085212, 0.7728315,
         0.9617039, -0.7165015, 0.0810215, 1.1237847, 0.6194475, -0.0778345, 0.7442878, 1.6396937, -0.0206094,
         0.3589649});
  check(2, 2, {-1.125, -0.5839477, 0.9396738, 0.2327229, 0.4794125});
  check(4, 4, {-1.125, -1.6875, 0.5625, 0.8125});
  CHECK(contains(message_of([&] { interpolate_pos_embed(pos, 3, 3, false); }), "not a square grid"));
}
