// The method's equations against PyTorch in F64 (golden/qfm_losses.safetensors): search, noise, every loss,
// every gradient. Bounds are those of golden_test.cpp: 1e-10 of the largest value, 1e-9 where a length is
// divided by.
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/safetensors.h"
#include "kernels/matching/matching.h"
#include "layers/pointwise.h"
#include "layers/loss.h"
#include "layers/noise.h"
#include "layers/qfm_losses.h"
#include "layers/similarity.h"
#include "layers/reduce.h"
#include "layers/shape.h"
#include "models/feature_selection.h"
#include "models/heads/query_decoder.h"
#include "tests/support.h"

using namespace qfm;
using namespace qfm::test;
using nlohmann::json;

namespace {

const TensorFile& golden() {
  static const TensorFile file = TensorFile::open(golden_path("qfm_losses.safetensors"));
  return file;
}
Tensor get(const std::string& name) { return golden().tensor(name); }
json config() { return json::parse(golden().metadata().at("config")); }

// Key biases have no gradient: what stands there is rounding noise.
void check_equal(const std::string& name, const Tensor& got, const Tensor& expected, double bound = 1e-9) {
  CAPTURE(name);
  REQUIRE(got.shape() == expected.shape());
  const auto a = got.span<double>(), b = expected.span<double>();
  const bool packed = name.ends_with("in_proj_bias");
  double largest = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::fabs(b[i]));
    if (packed && i >= a.size() / 3 && i < 2 * a.size() / 3) continue;
    difference = std::isfinite(a[i]) ? std::max(difference, std::fabs(a[i] - b[i])) : INFINITY;
  }
  CHECK(difference <= std::max(bound * largest, 1e-12));
}

Tensor integers(const std::string& name) {  // I64 -> I32
  const Tensor x = get(name);
  std::vector<int32_t> values(x.span<int64_t>().begin(), x.span<int64_t>().end());
  return Tensor::from(values, x.shape());
}

// The gate and the decoder with the golden weights, and the features of five photos after gating.
struct Fixture {
  ParamSet params;
  FeatureSelection select{Scope(params) / "select", 48};
  QueryDecoder decoder{params, {}, FeatureShape{0, 0, 48, 0, 0}};
  Var cls, patches, gates, gated_cls, gated;

  Fixture() {
    params.allocate(cpu_device, DType::F64, true);
    for (const Param& p : params.params()) p.master().copy_from(get(p.name()));
    cls = Var::leaf(get("c")), patches = Var::leaf(get("P"));
    gates = select(patches);
    gated_cls = cls * gates, gated = patches * reshape(gates, {gates.dim(0), 1, gates.dim(1)});
  }
  Tensor noise() const {
    const Tensor raw = gather_tokens(get("memory_P"), integers("partner"), integers("perm"));
    const Tensor ones = Tensor::from(std::vector<double>(5, 1.0), {5});
    const Tensor zero = Tensor::zeros(raw.shape(), DType::F64);
    return perturb(zero, raw, noise_factor(ones, image_norms(gated.value), image_norms(raw))).value;
  }
};

}  // namespace

TEST_CASE("the search finds PyTorch's partners") {
  const Fixture f;
  const Tensor z = l2norm(mean(f.gated, {1})).value.to(DType::F32),
               memory_z = get("memory_z").to(DType::F32);
  const Tensor y = get("y").to(DType::F32), memory_y = get("memory_y").to(DType::F32);
  const std::vector<int64_t> unknown(12, -1);
  std::vector<int64_t> age(12);
  for (size_t i = 0; i < age.size(); ++i) age[i] = static_cast<int64_t>(i);
  const Tensor ids = get("ids"), memory_ids = get("memory_id");
  const MatchKeys queries{z.data<float>(), y.data<float>(), ids.data<int64_t>(), unknown.data(), nullptr, 5};
  const MatchKeys memory{memory_z.data<float>(),
                         memory_y.data<float>(),
                         memory_ids.data<int64_t>(),
                         unknown.data(),
                         age.data(),
                         12};
  std::vector<int32_t> partner(5);
  std::vector<float> cosine(5);
  const MatchRule rule{config()["tau_q"].get<float>(), config()["tau_s"].get<float>()};
  nearest_match(Cpu{}, partner.data(), cosine.data(), queries, memory, 48, rule);
  const Tensor expected = get("partner");
  for (size_t i = 0; i < 5; ++i) {
    CHECK(partner[i] == expected.span<int64_t>()[i]);
    if (partner[i] >= 0)
      CHECK(cosine[i] ==
            doctest::Approx(get("cosine").span<double>()[i * 12 + static_cast<size_t>(partner[i])])
                .epsilon(1e-5));
  }
}

TEST_CASE("gate, noise and its variance equal PyTorch's") {
  const Fixture f;
  check_equal("g", f.gates.value, get("g"));
  const Tensor noise = f.noise();
  check_equal("noise", noise, get("noise"));
  check_equal("perturbed", perturb(f.gated, noise, get("a")).value, get("perturbed"));
  const Tensor weight = match_weights(integers("partner"), DType::F64);
  check_equal("noise_variance", noise_variance(noise, get("a"), weight), get("noise_variance"));
}

TEST_CASE("the whole loss and every gradient equal PyTorch's") {
  const Fixture f;
  const json c = config();
  const Tensor weight = match_weights(integers("partner"), DType::F64), noise = f.noise(), y = get("y");
  const Scores clean = f.decoder({f.gated_cls, f.gated, {}});
  const Scores moved = f.decoder({f.gated_cls, perturb(f.gated, noise, get("a")), {}});
  check_equal("decoder_out", clean.tokens.value, get("decoder_out"));
  check_equal("decoder_out_perturbed", moved.tokens.value, get("decoder_out_perturbed"));
  check_equal("scores", clean.score.value, get("scores"));
  check_equal("scores_perturbed", moved.score.value, get("scores_perturbed"));

  const Var base = smooth_l1(clean.score, y);
  const Var cons = weighted_sum({{weighted_smooth_l1(moved.score, y, weight), 1},
                                 {cosine_distance(moved.tokens, clean.tokens.value, weight), c["w_f"]}});
  const Var sel = selection_loss(f.gates, noise_variance(noise, get("a"), weight));
  const Var loss = weighted_sum({{base, 1}, {cons, c["w_c"]}, {sel, c["w_s"]}});
  check_equal("l_base", base.value, get("l_base"));
  check_equal("l_cons", cons.value, get("l_cons"));
  check_equal("l_sel", sel.value, get("l_sel"));
  check_equal("loss", loss.value, get("loss"));
  backward(loss);
  check_equal("grad.c", f.cls.grad(), get("grad.c"));
  check_equal("grad.P", f.patches.grad(), get("grad.P"));
  for (const Param& p : f.params.params()) check_equal(p.name(), p.grad(), get("grad." + p.name()));
}

TEST_CASE("nothing matched: no noise, and losses of 0 without gradient") {
  const Fixture f;
  const Tensor none = Tensor::from(std::vector<int32_t>(5, -1), {5});
  const Tensor weight = match_weights(none, DType::F64), y = get("y");
  const Tensor noise = gather_tokens(get("memory_P"), none, integers("perm"));
  const Tensor factor = noise_factor(get("a"), image_norms(f.gated.value), image_norms(noise));
  const auto moved = f.decoder({f.gated_cls, perturb(f.gated, noise, factor), {}});
  const Var loss = weighted_sum({{weighted_smooth_l1(moved.score, y, weight), 1},
                                 {cosine_distance(moved.tokens, moved.tokens.value, weight), 1},
                                 {selection_loss(f.gates, noise_variance(noise, factor, weight)), 1}});
  CHECK(loss.value.span<double>()[0] == 0);
  backward(loss);
  for (double g : f.patches.grad().span<double>()) REQUIRE(g == 0);
}

TEST_CASE("contrastive losses and feature distillation equal PyTorch's") {
  const double temperature = config()["temperature"];
  const Var h = Var::leaf(get("ntxent.h"));
  const Var pairs = ntxent(h, {1, 0, 3, 2, 5, 4, 7, 6, 9, 8}, temperature);
  check_equal("ntxent.loss", pairs.value, get("ntxent.loss"));
  backward(pairs);
  check_equal("ntxent.grad.h", h.grad(), get("ntxent.grad.h"));

  const Var rows = Var::leaf(get("supcon.h"));
  const Tensor y = get("supcon.y");
  const Tensor targets =
      contrast_targets({y.span<double>().begin(), y.span<double>().end()}, config()["supcon_tau"]);
  const Var scores = score_contrast(rows, targets, temperature);
  check_equal("supcon.loss", scores.value, get("supcon.loss"));
  backward(scores);
  check_equal("supcon.grad.h", rows.grad(), get("supcon.grad.h"));

  const Var student = Var::leaf(get("distil.student"));
  const Tensor even = Tensor::from(std::vector<double>(4, 0.25), {4});
  const Var distil = cosine_distance(student, get("distil.teacher"), even);
  check_equal("distil.loss", distil.value, get("distil.loss"));
  backward(distil);
  check_equal("distil.grad.student", student.grad(), get("distil.grad.student"));
}
