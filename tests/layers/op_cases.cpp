#include "tests/layers/op_cases.h"

#include "engine/base/rng.h"
#include "layers/attention.h"
#include "layers/layernorm.h"
#include "layers/linear.h"
#include "layers/loss.h"
#include "layers/mlp.h"
#include "layers/noise.h"
#include "layers/patch_embed.h"
#include "layers/pointwise.h"
#include "layers/qfm_losses.h"
#include "layers/reduce.h"
#include "layers/shape.h"
#include "layers/similarity.h"

namespace qfm::test {
namespace {

void add_linear(std::vector<OpCase>& t) {
  for (auto [m, k, n] :
       {std::array<int64_t, 3>{1, 1, 1}, {7, 13, 5}, {197, 24, 31}, {6, 192, 3}, {33, 64, 96}})
    t.push_back({concat("linear ", m, "x", k, "x", n),
                 {x({m, k}), w({n, k}), w({n}), x({m, n})},
                 [](const In& v) { return linear(v[0], v[1], v[2], v[3]); },
                 std::max({m, k, n})});
  t.push_back(
      {"linear without bias", {x({2, 7, 5}), w({3, 5})}, [](const In& v) { return linear(v[0], v[1]); }, 14});
  for (auto [m, d, h] : {std::array<int64_t, 3>{1, 1, 1}, {13, 7, 28}, {197, 12, 48}})
    t.push_back({concat("mlp ", m, "x", d, "x", h),
                 {x({m, d}), w({h, d}), w({h}), w({d, h}), w({d}), x({m, d})},
                 [](const In& v) { return mlp(v[0], v[1], v[2], v[3], v[4], v[5]); },
                 std::max(m, h) * 2});
  t.push_back({"patch_embed",
               {x({2, 3, 8, 12}), w({5, 3, 4, 4}), w({5})},
               [](const In& v) { return patch_embed(v[0], v[1], v[2]); },
               48});
}

void add_norms(std::vector<OpCase>& t) {
  for (auto [r, c] :
       {std::array<int64_t, 2>{1, 1}, {197, 1}, {1, 13}, {7, 13}, {197, 192}, {5, 384}, {3, 1000}})
    t.push_back({concat("layernorm ", r, "x", c),
                 {x({r, c}), w({c}), w({c})},
                 [](const In& v) { return layernorm(v[0], v[1], v[2], 1e-6); },
                 std::max(r, c)});
  t.push_back({"layernorm far from zero",
               {{{5, 13}, false, true, 0.05, 10}, w({13}), w({13})},
               [](const In& v) { return layernorm(v[0], v[1], v[2], 1e-6); },
               13 * 200 * 200});
  // Both results of the fused normalisation are used, or one.
  for (auto [r, c] : {std::array<int64_t, 2>{1, 1}, {7, 13}, {197, 192}, {5, 384}})
    t.push_back({concat("residual_layernorm ", r, "x", c),
                 {x({r, c}), w({c}), x({r, c}), w({c}), w({c})},
                 [](const In& v) {
                   const auto [sum, y] = residual_layernorm(v[0], v[1], v[2], v[3], v[4], 1e-6);
                   return y * sum;
                 },
                 std::max(r, c)});
  t.push_back({"residual_layernorm without gamma",
               {x({7, 13}), x({7, 13}), w({13}), w({13})},
               [](const In& v) {
                 const auto [sum, y] = residual_layernorm(v[0], {}, v[1], v[2], v[3], 1e-6);
                 return y * sum;
               },
               13});
  t.push_back({"residual_layernorm of a stream alone",
               {x({7, 13}), w({13}), w({13})},
               [](const In& v) {
                 const auto [sum, y] = residual_layernorm({}, {}, v[0], v[1], v[2], 1e-6);
                 return y * sum;
               },
               13});
  t.push_back({"residual_layernorm, only y used",
               {x({7, 13}), w({13}), x({7, 13}), w({13}), w({13})},
               [](const In& v) { return residual_layernorm(v[0], v[1], v[2], v[3], v[4], 1e-6).y; },
               13});
  t.push_back({"residual_layernorm, only the sum used",
               {x({7, 13}), w({13}), x({7, 13}), w({13}), w({13})},
               [](const In& v) { return residual_layernorm(v[0], v[1], v[2], v[3], v[4], 1e-6).sum; },
               13});
  t.push_back({"l2norm", {x({7, 13})}, [](const In& v) { return l2norm(v[0]); }, 13});
  t.push_back({"cosine", {x({7, 13}), x({7, 13})}, [](const In& v) { return cosine(v[0], v[1]); }, 13});
}

void add_attention(std::vector<OpCase>& t) {
  for (auto [b, s, h, d] :
       {std::array<int64_t, 4>{1, 1, 1, 1}, {2, 7, 3, 5}, {1, 197, 3, 64}, {3, 6, 6, 32}, {1, 50, 2, 32}})
    t.push_back({concat("self_attention ", b, "x", s, "x", h, "x", d),
                 {x({b, s, 3 * h * d})},
                 [h = h](const In& v) { return self_attention(v[0], h); },
                 2 * std::max(s, d)});
  for (auto [b, q, n, h, d] : {std::array<int64_t, 5>{2, 6, 196, 6, 32}, {1, 6, 196, 6, 64}, {2, 3, 5, 1, 7}})
    t.push_back({concat("cross_attention ", b, "x", q, "x", n, "x", h, "x", d),
                 {x({b, q, h * d}), x({b, n, 2 * h * d})},
                 [h = h](const In& v) { return cross_attention(v[0], v[1], h); },
                 2 * std::max(n, d)});
  // 77 queries as CLIP's text; lengths of none, one, a few, the most that there are.
  const auto mask = [](const Var& x, bool causal, std::vector<int32_t> lengths) {
    return Mask{causal, Tensor::from(lengths, {x.dim(0)}).to(x.value.device())};
  };
  for (auto [b, s, h, d] :
       {std::array<int64_t, 4>{1, 1, 1, 1}, {2, 7, 3, 5}, {1, 77, 2, 64}, {2, 37, 2, 16}, {1, 23, 1, 72}})
    t.push_back({concat("self_attention causal ", b, "x", s, "x", h, "x", d),
                 {x({b, s, 3 * h * d})},
                 [h = h](const In& v) { return self_attention(v[0], h, {.causal = true}); },
                 2 * std::max(s, d)});
  t.push_back({"self_attention of padded keys",
               {x({4, 19, 3 * 16})},
               [=](const In& v) {
                 return self_attention(v[0], 2, mask(v[0], false, {0, 1, 13, 19}));
               },
               2 * 19});
  t.push_back({"self_attention causal, of padded keys",
               {x({4, 19, 3 * 16})},
               [=](const In& v) {
                 return self_attention(v[0], 2, mask(v[0], true, {0, 1, 13, 19}));
               },
               2 * 19});
  for (auto [q, n] : {std::array<int64_t, 2>{13, 80}, {31, 5}, {3, 9}})
    t.push_back({concat("cross_attention causal, ", q, " queries, ", n, " padded keys"),
                 {x({2, q, 16}), x({2, n, 2 * 16})},
                 [=, n = n](const In& v) {
                   return cross_attention(v[0], v[1], 2, mask(v[0], true, {static_cast<int32_t>(n), 4}));
                 },
                 2 * std::max(n, q)});
  t.push_back({"cross_attention of padded keys",
               {x({2, 6, 64}), x({2, 196, 2 * 64})},
               [=](const In& v) {
                 return cross_attention(v[0], v[1], 2, mask(v[0], false, {101, 33}));
               },
               2 * 196});
}

void add_pointwise(std::vector<OpCase>& t) {
  for (auto [r, c] : {std::array<int64_t, 2>{5, 1}, {7, 13}, {3, 197}})
    t.push_back({concat("softmax ", r, "x", c),
                 {{{r, c}, false, true, 2.0}},
                 [](const In& v) { return softmax(v[0]); },
                 c});
  t.push_back({"cast to the accumulation type",
               {x({7, 13})},
               [](const In& v) { return cast(v[0], acc_of(v[0].value.dtype())); },
               1});
  // With beta above 0 the weight has no gradient, which differences would see: train/objectives/uncertainty_test.cpp.
  t.push_back({"beta_nll",
               {x({13}), x({13}), fixed({13})},
               [](const In& v) { return beta_nll(v[0], v[1], v[2].value, 0); },
               13});
  t.push_back({"smooth_l1",
               {{{13}, false, true, 3.0}, fixed({13})},
               [](const In& v) { return smooth_l1(v[0], v[1].value); },
               13});
}

void add_branches(std::vector<OpCase>& t) {
  t.push_back({"a branch used twice",
               {x({5, 7}), w({7, 7})},
               [](const In& v) { return linear(linear(v[0], v[1]), v[1], {}, v[0]); },
               49});
}

// A constant in the accumulation type of x, as weights and factors are.
Tensor constant(const Var& v, const Var& x) {
  return v.value.to(cpu_device).to(acc_of(x.value.dtype())).to(x.value.device());
}

void add_method(std::vector<OpCase>& t) {
  t.push_back({"perturb",
               {x({3, 7, 13}), fixed({3, 7, 13}), fixed({3})},
               [](const In& v) { return perturb(v[0], v[1].value, constant(v[2], v[0])); },
               1});
  for (int64_t n : {1, 13, 197})
    t.push_back({concat("weighted_smooth_l1 ", n),
                 {{{n}, false, true, 3.0}, fixed({n}), fixed({n})},
                 [](const In& v) { return weighted_smooth_l1(v[0], v[1].value, constant(v[2], v[0])); },
                 n});
  for (auto [b, r, d] : {std::array<int64_t, 3>{1, 1, 2}, {5, 6, 24}, {2, 197, 13}})
    t.push_back({concat("cosine_distance ", b, "x", r, "x", d),
                 {x({b, r, d}), fixed({b, r, d}), fixed({b})},
                 [](const In& v) { return cosine_distance(v[0], v[1].value, constant(v[2], v[0])); },
                 b * r * d});
  const auto gates = [](Shape s) { return OpInput{s, false, true, 0.1, 0.6}; };
  for (auto [b, d] : {std::array<int64_t, 2>{1, 1}, {5, 13}, {3, 197}})
    t.push_back({concat("selection_loss ", b, "x", d),
                 {gates({b, d}), {{d}, false, false, 0.2, 1.0}},
                 [](const In& v) { return selection_loss(v[0], constant(v[1], v[0])); },
                 b * d});
  t.push_back({"selection_loss of a noise's variances",
               {gates({5, 13}), fixed({5, 7, 13}), fixed({5})},
               [](const In& v) {
                 const Tensor partner = Tensor::from(std::vector<int32_t>{3, -1, 0, 9, -1}, {5});
                 const DType a = acc_of(v[0].value.dtype());
                 const Tensor weight = match_weights(partner.to(v[0].value.device()), a);
                 return selection_loss(v[0], noise_variance(v[1].value, constant(v[2], v[0]), weight));
               },
               5 * 7 * 13});
  t.push_back({"ntxent",
               {x({6, 13})},
               [](const In& v) {
                 return ntxent(v[0], {1, 0, 3, 2, 5, 4}, 0.2);
               },
               6 * 13});
  t.push_back({"score_contrast",
               {x({7, 13})},
               [](const In& v) {
                 return score_contrast(v[0], contrast_targets({0, .04, .5, .52, .55, .9, .2}, .05), 0.2);
               },
               7 * 13});
  t.push_back(
      {"weighted_sum",
       {x({7, 13}), x({13}), fixed({7, 13}), fixed({13})},
       [](const In& v) {
         return weighted_sum({{smooth_l1(v[0], v[2].value, 2), 1}, {smooth_l1(v[1], v[3].value), 0.25}});
       },
       91});
}

Tensor random_tensor(const OpInput& in, uint32_t index, const std::string& name) {
  Rng rng(2024, name, index);
  Tensor t(in.shape, DType::F32);
  for (float& v : t.span<float>()) v = static_cast<float>(in.offset + in.spread * rng.normal());
  return t;
}

}  // namespace

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> table = [] {
    std::vector<OpCase> t;
    add_linear(t), add_norms(t), add_attention(t), add_pointwise(t), add_branches(t), add_method(t);
    add_algebra_cases(t), add_conv_cases(t), add_norm_pool_cases(t), add_sampling_cases(t);
    return t;
  }();
  return table;
}

std::vector<Var> make_inputs(const OpCase& c, DType dtype, Device device) {
  std::vector<Var> inputs;
  for (const OpInput& in : c.inputs) {
    // Rounded to bf16 first, so that every dtype starts from the same numbers.
    const Tensor value =
        random_tensor(in, static_cast<uint32_t>(inputs.size()), c.name).to(DType::BF16).to(dtype).to(device);
    if (!in.needs_grad) inputs.push_back(Var(value));
    else if (in.weight)
      inputs.push_back(Var::parameter(value, Tensor::zeros(in.shape, acc_of(dtype), device)));
    else inputs.push_back(Var::leaf(value));
  }
  return inputs;
}

std::vector<Tensor> run(const OpCase& c, DType dtype, Device device) {
  const std::vector<Var> inputs = make_inputs(c, dtype, device);
  const Var y = c.build(inputs);
  const Tensor dy = random_tensor({y.shape()}, 1000, c.name).to(DType::BF16).to(y.value.dtype()).to(device);
  backward(y, dy);
  std::vector<Tensor> results{y.value.to(cpu_device).to(DType::F64)};
  for (const Var& v : inputs) results.push_back(v.grad().to(cpu_device).to(DType::F64));
  return results;
}

}  // namespace qfm::test
