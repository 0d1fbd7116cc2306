// The memory of --method v2: who is found, what is added, how strength follows the shift, the loss and its gradient.
#include "train/objectives/photo_memory.h"

#include <cmath>

#include "layers/pointwise.h"
#include "tests/train/run/runs.h"
#include "train/objectives/consistency.h"
#include "train/run/semantics.h"

using namespace qfm;
using namespace qfm::test;

namespace {

constexpr int64_t kB = 3;

// Six photos; 0, 1, 2 and 5 have opinions within 5 points, 2 is of the same reference as 0.
const std::vector<float> kScores = {.50f, .52f, .53f, .70f, .90f, .54f};
const std::vector<int64_t> kScenes = {7, -1, 7};
Tensor descriptors() {
  return Tensor::from(std::vector<float>{1, 0, 0.6f, 0.8f, -1, 0, 0, 1, 0, -1, 0.8f, -0.6f}, {6, 2});
}

// A toy model in F64 and an objective of it, fed images of noise.
struct Fixture {
  Options options;
  Model model;
  const ModelInfo info = toy_info();
  std::unique_ptr<Consistency> objective;
  explicit Fixture(Options o) : options(std::move(o)), model(toy_config()) {
    options.set("method", std::string("v2"));
    objective = std::make_unique<Consistency>(context());
    model.params.allocate(cpu_device, DType::F64, true);
    model.params.initialise(3);
    for (const Param& p : model.params.params())
      if (p.name() == "head.weight") fill(p, trunc_normal(3));  // scores far apart
    objective->started();
  }
  ObjectiveContext context() {
    return {options, model, info, cpu_device, DType::F64, kB, 3, kScenes, kScores, {2, descriptors}};
  }
  // (B, 3, H, W)
  static Tensor images(uint32_t number) {
    const Tensor x({kB, 3, kToyCrop, kToyCrop}, DType::F64);
    Rng rng(2, "images", number);
    for (double& v : x.span<double>()) v = rng.normal();
    return x;
  }
  static Batch batch(const std::vector<int64_t>& photos) {
    Batch b;
    b.labels = Tensor({kB}), b.photos = photos;
    for (size_t i = 0; i < photos.size(); ++i) {
      b.labels.span<float>()[i] = 100 * kScores[static_cast<size_t>(photos[i])];
      b.samples.push_back(static_cast<uint32_t>(photos[i]));
    }
    return b;
  }
  // A step's loss; null loss in phase 0. kept: what the model gave.
  Var step(uint32_t number, const std::vector<int64_t>& photos, uint32_t epoch,
           Model::Output* kept = nullptr) {
    const Batch b = batch(photos);
    HostInputs inputs;
    objective->plan(kB, kB, objective->phase(epoch));
    objective->prepare(b, epoch, inputs);
    const Tensor x = images(number), labels = b.labels.to(DType::F64);
    const Model::Output out = model(x);
    const Var loss = (*objective)(Step{model, x, out, out.scores.score, labels, inputs});
    if (kept) *kept = out;
    objective->finished(b);
    return loss;
  }
  Tensor state(const std::string& name) const {
    for (const auto& [key, tensor] : objective->state())
      if (key == name) return tensor;
    FAIL("no state " << name);
    return {};
  }
};

Options matched() {
  Options o;
  return o.set("match", std::string("matched"));
}

}  // namespace

TEST_CASE("the partner is the seen photo of equal opinion and another scene that shows the least alike") {
  Fixture f(matched());
  CHECK(f.step(1, {1, 5, 3}, 0).value.empty());
  f.step(2, {0, 2, 4}, 1);
  const auto looks = f.state("match.looks").span<float>();
  CHECK(looks[0 * 3 + 2] ==
        1);  // cosine 0.6, before 5 with 0.8; 2 has -1, but is of its scene and was not seen
  CHECK(looks[2 * 3 + 2] == 5);   // -0.8, before 1 with -0.6
  CHECK(looks[4 * 3 + 2] == -1);  // no other opinion is as high
  CHECK(looks[4 * 3 + 1] == -1);
  f.step(3, {1, 5, 3}, 1);
  CHECK(f.state("match.looks").span<float>()[1 * 3 + 2] == 2);  // -0.6, before 5 with 0
  const auto statistics = f.objective->statistics();
  CHECK(statistics["rate"].get<double>() == doctest::Approx(4.0 / 6));
  CHECK(statistics["partners"] == 3);  // 1, 5, and 2 for both 1 and 5
  CHECK(statistics["cosine"].get<double>() == doctest::Approx((0.6 - 0.8 - 0.6 - 0.8) / 4));
  CHECK(f.objective->statistics().is_null());
}

TEST_CASE("of two crops of a photo in a batch the later one is remembered") {
  Fixture f(matched());
  Model::Output out;
  f.step(1, {1, 1, 3}, 0, &out);
  const Tensor rows = f.state("match.pooled").to(DType::F64);
  for (int64_t d = 0; d < rows.dim(1); ++d) {
    CHECK(rows.data<double>()[1 * rows.dim(1) + d] ==
          doctest::Approx(out.features.pooled.value.data<double>()[1 * rows.dim(1) + d]).epsilon(0.01));
    CHECK(rows.data<double>()[0 * rows.dim(1) + d] == 0);
  }
}

TEST_CASE("loss and gradient are those of the equation, by finite differences in F64") {
  for (const char* where : {"both", "tokens", "class"}) {
    CAPTURE(std::string(where));
    Fixture f(matched().set("noise-on", std::string(where)));
    Model::Output out;
    f.step(1, {1, 5, 3}, 0);
    const Tensor tokens = f.state("match.tokens").to(DType::F64),
                 pooled = f.state("match.pooled").to(DType::F64);
    f.model.params.zero_grad();
    const Var loss = f.step(2, {0, 2, 4}, 1, &out);
    const Tensor clean = out.scores.score.value.clone();
    // a (N - P) and a (c_j - c) of partners 1, 5 and none, from here on constants; a is 0.5 in the first step.
    const auto added = [](const Tensor& memory, const Tensor& own) {
      const int64_t row = own.numel() / kB, partner[] = {1, 5};
      const Tensor x = Tensor::zeros(own.shape(), DType::F64);
      for (int64_t i = 0; i < 2; ++i)
        for (int64_t e = 0; e < row; ++e)
          x.data<double>()[i * row + e] =
              0.5 * (memory.data<double>()[partner[i] * row + e] - own.data<double>()[i * row + e]);
      return x;
    };
    const bool on_tokens = std::string(where) != "class", on_class = std::string(where) != "tokens";
    const Tensor to_tokens = added(tokens, out.features.tokens.value),
                 to_pooled = added(pooled, out.features.pooled.value);
    const auto value = [&] {
      const NoGrad guard;
      Features g = f.model(Fixture::images(2)).features;
      if (on_tokens) g.tokens = g.tokens + Var(to_tokens);
      if (on_class) g.pooled = g.pooled + Var(to_pooled);
      const Tensor score = (*f.model.head)(g).score.value;
      double sum = 0;
      for (size_t i = 0; i < 2; ++i) {
        const double d = std::fabs(score.span<double>()[i] - clean.span<double>()[i]);
        sum += (d < 1 ? d * d / 2 : d - 0.5) / kB;
      }
      return sum;
    };
    CHECK(loss.value.span<double>()[0] == doctest::Approx(value()).epsilon(1e-10));
    CHECK(value() > 1e-3);
    backward(loss);
    for (const Param& p : f.model.params.params()) {
      if (p.name() != "head.weight" && p.name() != "vit.norm.weight" && p.name() != "queries") continue;
      CAPTURE(p.name());
      for (const int64_t at : {int64_t{0}, p.shape().numel() / 2}) {
        double& x = p.master().data<double>()[at];
        const double kept = x, h = 1e-6;
        x = kept + h;
        const double above = value();
        x = kept - h;
        const double below = value();
        x = kept;
        CHECK(p.grad().data<double>()[at] == doctest::Approx((above - below) / (2 * h)).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("strength follows the wanted shift in the first epoch with noise, and then stays") {
  Fixture f(matched().set("shift", 0.02));
  f.step(1, {1, 5, 3}, 0);
  f.step(2, {0, 2, 1}, 1);
  const auto looks = f.state("match.looks").span<float>();
  const double mean = (looks[1] + looks[2 * 3 + 1] + looks[1 * 3 + 1]) / 3.0,
               strength = f.state("match.strength").span<double>()[0];
  REQUIRE(mean > 0.02);
  CHECK(strength == doctest::Approx(0.02 * 0.5 * 1.001 / (mean + 0.02e-3)).epsilon(1e-4));
  f.step(3, {0, 2, 1}, 2);
  CHECK(f.state("match.strength").span<double>()[0] == strength);
  Fixture far(matched().set("shift", 100));
  far.step(1, {1, 5, 3}, 0), far.step(2, {0, 2, 1}, 1);
  CHECK(far.state("match.strength").span<double>()[0] ==
        1);  // the partner in place of the photo: there is no more
}

TEST_CASE("of several partners that which moves the score most is taken") {
  Fixture one(matched()), many(matched().set("adversarial", 3));
  for (Fixture* f : {&one, &many}) f->step(1, {1, 5, 3}, 0), f->step(2, {0, 2, 4}, 1);
  const auto a = one.state("match.looks").span<float>(), b = many.state("match.looks").span<float>();
  CHECK(b[1] >= a[1]);
  CHECK(b[2 * 3 + 1] >= a[2 * 3 + 1]);
  CHECK((b[1] > a[1] || b[2 * 3 + 1] > a[2 * 3 + 1] || (a[2] == b[2] && a[2 * 3 + 2] == b[2 * 3 + 2])));
}

TEST_CASE("descriptors are centred directions; a memory that no machine has is refused in one line") {
  const Tensor z = centred_directions(Tensor::from(std::vector<float>{1, 5, 4, 1, 1, 3}, {3, 2}));
  CHECK(z.span<float>()[0] == doctest::Approx(-1 / std::sqrt(5)));
  CHECK(z.span<float>()[1] == doctest::Approx(2 / std::sqrt(5)));
  CHECK(z.span<float>()[4] == -1);
  CHECK(z.span<float>()[5] == 0);
  CHECK_NOTHROW(check_memory_fits(100, 10, 1000));
  CHECK(
      message_of([] { check_memory_fits(40000, int64_t{1} << 20, int64_t{4} << 30); }) ==
      "--method v2: its memory of 40000 photos takes 39.1 GiB, the machine has 4 GiB: 4096 photos would fit");
}

TEST_CASE("the closed form's gate is the variance that opinion explains against that of equal opinion") {
  ModelConfig config = toy_config();
  config.select = true;
  Options options = matched().set("method", std::string("v2")).set("gate", std::string("closed-form"));
  Model model(config);
  Objectives made = make_objectives(
      {options, model, toy_info(), cpu_device, DType::F64, kB, 3, kScenes, kScores, {2, descriptors}});
  model.params.allocate(cpu_device, DType::F64, true);
  model.params.initialise(3);
  for (const auto& one : made) one->started();
  std::vector<Model::Output> outputs;
  for (const auto& [epoch, photos] :
       {std::pair<uint32_t, std::vector<int64_t>>{0, {1, 5, 3}}, {1, {0, 2, 4}}}) {
    const Batch batch = Fixture::batch(photos);
    HostInputs inputs;
    for (const auto& one : made) one->plan(kB, kB, one->phase(epoch)), one->prepare(batch, epoch, inputs);
    const Tensor x = Fixture::images(epoch), labels = batch.labels.to(DType::F64);
    outputs.push_back(model(x));
    for (const auto& one : made)
      (*one)(Step{model, x, outputs.back(), outputs.back().scores.score, labels, inputs});
    for (const auto& one : made) one->forget(), one->finished(batch);
  }
  // By hand, channel by channel: x is the mean token, its partners' as BF16 keeps it.
  const Tensor own = outputs[1].features.tokens.value,
               before = outputs[0].features.tokens.value.to(DType::BF16).to(DType::F64);
  const int64_t tokens = own.dim(1), width = own.dim(2);
  const auto mean_token = [&](const Tensor& t, int64_t i, int64_t d) {
    double sum = 0;
    for (int64_t n = 0; n < tokens; ++n)
      sum += t.data<double>()[(i * tokens + n) * width + d] / static_cast<double>(tokens);
    return sum;
  };
  const double y[] = {50, 53, 90}, y_mean = 193.0 / 3, variance = 2978.0 / 9;
  std::vector<double> between, within;
  double all_between = 0, all_within = 0;
  for (int64_t d = 0; d < width; ++d) {
    double covariance = 0;
    for (int64_t i = 0; i < 3; ++i) covariance += mean_token(own, i, d) * (y[i] - y_mean) / 3;
    const double a = mean_token(before, 0, d) - mean_token(own, 0, d),
                 b = mean_token(before, 1, d) - mean_token(own, 1, d);
    between.push_back(covariance * covariance / variance), within.push_back((a * a + b * b) / 2 / 2);
    all_between += between.back(), all_within += within.back();
  }
  const Tensor gate = model.select->gate_at_mean();
  for (size_t d = 0; d < between.size(); ++d) {
    const double ratio = between[d] / within[d] * all_within / all_between;
    CHECK(gate.span<float>()[d] == doctest::Approx(ratio / (ratio + std::exp(-1.0))).epsilon(1e-4));
  }
}
