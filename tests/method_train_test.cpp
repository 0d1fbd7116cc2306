// Training with the method's switches: off they leave the baseline as it was, on they resume to the same bits
// and leave nothing in the checkpoint.
#include <cmath>
#include <set>

#include "engine/base/cpu.h"
#include "engine/base/rng.h"
#include "engine/base/threads.h"
#include "layers/noise.h"
#include "tests/runs.h"
#include "train/batch_stream.h"
#include "train/distil.h"
#include "train/evaluate.h"
#include "train/matching.h"
#include "train/pseudo_labels.h"

using namespace qfm;
using namespace qfm::test;

namespace {

struct PathGuard {
  CpuPath before = cpu_path();
  explicit PathGuard(CpuPath path) { set_cpu_path(path); }
  ~PathGuard() { set_cpu_path(before); }
};

struct Curve {
  std::vector<double> loss, norm;
};
Curve curve_of(const TrainConfig& config) {
  Curve curve;
  TrainHooks hooks;
  hooks.progress = [&](const TrainProgress& p) {
    curve.loss.push_back(p.loss), curve.norm.push_back(p.grad_norm);
  };
  train(config, hooks);
  return curve;
}

}  // namespace

TEST_CASE("with all switches off, 20 updates have the bits recorded before there were switches") {
  const json recorded = json::parse(bytes_of(golden_path("baseline20.json")));
  for (CpuPath path : {CpuPath::Plain, CpuPath::Avx2, CpuPath::Avx512}) {
    if (!available(path)) continue;
    CAPTURE(name_of(path));
    const PathGuard guard(path);
    const TemporaryFolder folder;
    TrainConfig config = toy_run(folder, "run");
    config.epochs = 5, config.device = "cpu";
    const Curve curve = curve_of(config);
    CHECK(curve.loss == recorded[name_of(path)]["loss"].get<std::vector<double>>());
    CHECK(curve.norm == recorded[name_of(path)]["grad_norm"].get<std::vector<double>>());
  }
}

// ---- each switch
// --------------------------------------------------------------------------------------------------

namespace {

struct Switch {
  const char* name;
  void (*turn)(TrainConfig&);
};
// Wide thresholds: the toy photos' features are much alike.
void match_as(TrainConfig& config, const char* mode) {
  config.match = mode, config.tau_q = 0.3, config.tau_s = 1, config.memory = 2;
}
// A wider teacher, and a folder of six photos beside the labelled ones.
void taught(TrainConfig& config) {
  const std::string here = std::filesystem::path(config.data).parent_path();
  config.teacher = here + "/teacher.safetensors", config.unlabelled = here + "/more";
  config.w_distil_feat = 0.5, config.pseudo_ratio = 0.5, config.spread_quantile = 0.9;
  if (std::filesystem::exists(config.unlabelled)) return;
  std::filesystem::create_directories(config.unlabelled + "/deeper");
  for (int i = 0; i < 6; ++i)
    write_image(concat(config.unlabelled, i % 2 ? "/deeper/" : "/", i, ".png"), drawn(40 + i, 50, 90 + i));
  ModelInfo info = toy_info();
  info.config.vit.width = info.config.panel.width = 36;
  info.config.select = true;
  QfmIqm teacher(info.config, cpu_device, DType::F32, false);
  teacher.init(8);
  save_model(config.teacher, teacher, info);
}
constexpr int64_t kMore = 1000;  // steps that no toy run has
const std::vector<Switch> kSwitches = {
    {"select", [](TrainConfig& c) { c.select = true; }},
    {"matched", [](TrainConfig& c) { match_as(c, "matched"); }},
    {"random", [](TrainConfig& c) { match_as(c, "random"); }},
    {"gaussian", [](TrainConfig& c) { match_as(c, "gaussian"); }},
    {"adversarial", [](TrainConfig& c) { match_as(c, "matched"), c.adversarial = 3; }},
    {"contrast", [](TrainConfig& c) { c.w_contrast = 0.5; }},
    {"averaged", [](TrainConfig& c) { c.ema = 0.9, c.w_distil_feat = 1; }},
    {"taught", taught},
    {"everything",
     [](TrainConfig& c) {
       taught(c), match_as(c, "matched");
       c.select = true, c.adversarial = 4, c.w_contrast = 0.1, c.ema = 0.9;
     }},
};

}  // namespace

TEST_CASE("each switch alone trains, changes the run, and resumes to the same bits") {
  const TemporaryFolder folder;
  const TrainConfig off = toy_run(folder, "off");
  const Curve baseline = curve_of(off);
  for (const Switch& one : kSwitches) {
    CAPTURE(std::string(one.name));
    TrainConfig whole = toy_run(folder, concat(one.name, "-whole"));
    one.turn(whole);
    train_until(whole, kMore);
    const bool changed = bytes_of(whole.out + "/last.safetensors") != bytes_of(off.out + "/last.safetensors");
    CHECK(changed);
    for (const std::vector<int64_t>& stops : {std::vector<int64_t>{5, 6}, {8, 11}}) {
      TrainConfig config = toy_run(folder, concat(one.name, stops[0]));
      one.turn(config);
      for (int64_t stop : stops) {
        CHECK(train_until(config, stop).steps == stop);
        config.resume = true;
      }
      CHECK(train_until(config, kMore).finished);
      check_equal_runs(whole, config);
    }
  }
}

TEST_CASE("with every switch on, a run killed at any moment and resumed has the bits of one that was not") {
  const TemporaryFolder folder;
  set_threads(1);  // a child of fork has no other threads
  TrainConfig whole = toy_run(folder, "whole"), config = toy_run(folder, "killed");
  for (TrainConfig* one : {&whole, &config}) {
    kSwitches.back().turn(*one);
    one->threads = 1, one->epochs = 2;
  }
  train_until(whole, kMore);
  check_killed_run(whole, config);
  set_threads(0);
}

TEST_CASE("matching changes nothing in the first epoch: the memory only fills") {
  const TemporaryFolder folder;
  const Curve off = curve_of(toy_run(folder, "off"));
  for (const char* mode : {"matched", "random", "gaussian"}) {
    TrainConfig config = toy_run(folder, mode);
    match_as(config, mode);
    const Curve on = curve_of(config);
    for (size_t i = 0; i < 4; ++i) CHECK(on.loss[i] == off.loss[i]);
    CHECK(on.loss[4] > off.loss[4]);  // the consistency loss is added
  }
}

TEST_CASE("an epoch reports its matches and gates") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  config.select = true, match_as(config, "matched");
  std::vector<EpochReport> epochs;
  TrainHooks hooks;
  hooks.epoch_done = [&](const EpochReport& e) { epochs.push_back(e); };
  train(config, hooks);
  REQUIRE(epochs.size() == 3);
  CHECK_FALSE(epochs[0].match);
  for (const EpochReport& e : epochs) {
    REQUIRE(e.gates);
    CHECK(e.gates->channels == 24);
    CHECK(e.gates->mean == doctest::Approx(0.982).epsilon(0.01));  // sigmoid(4): the gate starts open
    CHECK(e.gates->closed == 0);
  }
  REQUIRE(epochs[2].match);
  CHECK(epochs[2].match->rate > 0.5);
  CHECK(epochs[2].match->rate <= 1);
  CHECK(epochs[2].match->score_distance <= config.tau_q);
  CHECK(epochs[2].match->cosine <= config.tau_s);
  CHECK(contains(timeless_log(config), "\"match\":{"));
  CHECK(contains(timeless_log(config), "\"collapsed\":false"));
}

TEST_CASE(
    "a checkpoint trained with everything holds the model only, and scores as the run's own validation did") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  kSwitches.back().turn(config);
  config.val = config.data;
  std::optional<Agreement> validation;
  TrainHooks hooks;
  hooks.epoch_done = [&](const EpochReport& e) { validation = e.validation; };
  train(config, hooks);

  const std::string path = config.out + "/last.safetensors";
  const SafeTensors file = SafeTensors::open(path);
  for (const auto& [name, entry] : file.entries()) {
    const bool of_model = name.starts_with("vit.") || name.starts_with("decoder.") ||
                          name.starts_with("select.") || name == "queries" || name == "head.weight";
    CHECK_MESSAGE(of_model, name);
  }
  const auto loaded = load_model(path, cpu_device, DType::F32, false);
  std::vector<std::string> paths;
  std::vector<double> labels;
  for (int i = 0; i < 12; ++i)
    paths.push_back(folder / concat("photo", i, ".png")), labels.push_back(10 + 5 * i);
  const auto results = predict_photos(Predictor(*loaded.model, loaded.info), paths);
  const auto agreement = agreement_with(results, labels, static_cast<uint64_t>(config.seed));
  REQUIRE(validation);
  REQUIRE(agreement);
  CHECK(agreement->rmse == doctest::Approx(validation->rmse).epsilon(1e-6));
  CHECK(agreement->srcc == validation->srcc);
}

// ---- the memory
// --------------------------------------------------------------------------------------------------

namespace {

constexpr int64_t kTokens = 4, kWidth = 6;

Tensor features(int64_t batch, uint32_t seed) {
  const Tensor x({batch, kTokens, kWidth});
  Rng rng(9, "features", seed);
  for (float& v : x.span<float>()) v = rng.normal();
  return x;
}
MatchBatch keys(std::vector<float> score, std::vector<int64_t> image, std::vector<int64_t> reference) {
  MatchBatch batch{std::move(score), std::move(image), std::move(reference), {}};
  for (size_t i = 0; i < batch.image.size(); ++i) batch.sample.push_back(static_cast<uint32_t>(i));
  return batch;
}
MatchOptions options(MatchMode mode) { return {mode, 2, {0.05f, 1.0f}, 0.5, 0, 3}; }

// What a training step does with the memory.
std::optional<SemanticNoise> pass(MatchingMemory& memory, const Tensor& patches, const MatchBatch& batch,
                                  uint32_t epoch) {
  auto noise = memory.exchange(patches, memory.inputs(batch, epoch), epoch > 0);
  memory.remember(batch);
  return noise;
}

// Whether row b of the noise is a permutation of the tokens of row j of x.
bool permuted(const Tensor& noise, int64_t b, const Tensor& x, int64_t j) {
  std::multiset<float> a, c;
  for (int64_t t = 0; t < kTokens; ++t)
    a.insert(noise.data<float>()[(b * kTokens + t) * kWidth]),
        c.insert(x.data<float>()[(j * kTokens + t) * kWidth]);
  return a == c;
}

}  // namespace

TEST_CASE(
    "the memory excludes the same photo, the same reference and other scores; it forgets the oldest batch") {
  MatchingMemory memory(options(MatchMode::Matched), 2, kTokens, kWidth, DType::F32, cpu_device);
  const Tensor first = features(2, 1), second = features(2, 2), third = features(2, 3);
  CHECK_FALSE(pass(memory, first, keys({.5f, .9f}, {1, 2}, {7, -1}), 0));
  CHECK_FALSE(memory.take_statistics());
  // The same photo; the same reference.
  const auto none = pass(memory, second, keys({.5f, .5f}, {1, 3}, {-1, 7}), 1);
  for (float w : none->weight.span<float>()) CHECK(w == 0);
  // Score .52: row 0 of each batch and row 1 of the second; the least similar is taken. Score .1: nobody.
  const auto some = pass(memory, third, keys({.52f, .1f}, {4, 5}, {-1, -1}), 1);
  CHECK(some->weight.span<float>()[0] == 1);
  CHECK(some->weight.span<float>()[1] == 0);
  CHECK(some->noise_size.span<float>()[1] == 0);
  const bool of_a_candidate = permuted(some->tokens, 0, first, 0) || permuted(some->tokens, 0, second, 0) ||
                              permuted(some->tokens, 0, second, 1);
  CHECK(of_a_candidate);
  const auto statistics = memory.take_statistics();
  CHECK(statistics->rate == 0.25);
  CHECK(statistics->score_distance == doctest::Approx(0.02));
  // The first batch is gone: .9 finds nothing any more.
  CHECK(pass(memory, features(2, 4), keys({.9f, .9f}, {8, 9}, {-1, -1}), 1)->weight.span<float>()[0] == 0);
}

TEST_CASE("noise has the length of the features; draws depend on seed, epoch and sample only") {
  for (MatchMode mode : {MatchMode::Random, MatchMode::Gaussian}) {
    const auto draw = [&](uint32_t epoch, int64_t trials) {
      MatchOptions how = options(mode);
      how.trials = trials;
      MatchingMemory memory(how, 3, kTokens, kWidth, DType::F32, cpu_device);
      pass(memory, features(3, 1), keys({.1f, .5f, .9f}, {1, 2, 3}, {-1, -1, -1}), 0);
      return *pass(memory, features(3, 2), keys({.1f, .5f, .9f}, {4, 5, 6}, {-1, -1, -1}), epoch);
    };
    const SemanticNoise a = draw(1, 0), b = draw(1, 0), c = draw(2, 0), tried = draw(1, 5);
    const auto same = [](const Tensor& x, const Tensor& y) {
      return std::equal(x.span<float>().begin(), x.span<float>().end(), y.span<float>().begin());
    };
    CHECK(same(a.tokens, b.tokens));
    CHECK(same(a.strengths[0], b.strengths[0]));
    CHECK_FALSE(same(a.tokens, c.tokens));
    CHECK_FALSE(same(a.strengths[0], c.strengths[0]));
    CHECK(same(a.tokens, tried.tokens));  // the search changes no other draw
    CHECK(tried.strengths.size() == 5);
    int negative = 0;
    for (const Tensor& trial : tried.strengths)
      for (float s : trial.span<float>()) {
        negative += s < 0;
        CHECK(std::fabs(s) <= 0.5f);
      }
    CHECK(negative > 0);
    CHECK(negative < 15);
    for (float s : a.strengths[0].span<float>()) CHECK(s >= 0);

    const Tensor ones = Tensor::from(std::vector<float>(3, 1.0f), {3});
    const Tensor zero = Tensor::zeros(a.tokens.shape());
    const Tensor unit = perturb(zero, a.tokens, noise_factor(ones, a.size, a.noise_size)).value;
    const Tensor length = image_norms(unit);
    for (size_t i = 0; i < 3; ++i)
      CHECK(length.span<float>()[i] == doctest::Approx(a.size.span<float>()[i]).epsilon(1e-5));
  }
}

// ---- teachers
// --------------------------------------------------------------------------------------------------

TEST_CASE("pseudo-labels are the teacher's, cached by content, filtered by spread, and survive a cut cache") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  taught(config);
  std::filesystem::copy(config.unlabelled + "/0.png", config.unlabelled + "/same.png");
  write_file(config.unlabelled + "/bad.jpg", "no photo");
  PseudoLabelOptions options{config.teacher, config.unlabelled, folder / "cache.jsonl", 1.0, 1, {}};
  const PseudoLabels all = pseudo_labels(options);
  CHECK(all.photos == 8);
  CHECK(all.unreadable == 1);
  CHECK(all.dropped == 0);
  REQUIRE(all.kept.size() == 6);  // same.png has the content of 0.png
  const auto teacher = load_model(config.teacher, cpu_device, DType::F32, false);
  for (const PseudoLabel& label : all.kept) {
    const Prediction p = Predictor(*teacher.model, teacher.info)(decode_image(label.path));
    CHECK(label.quality == teacher.info.quality(p.score));
    CHECK(label.spread == teacher.info.quality_spread(p.spread));
  }
  const std::string cache = bytes_of(options.cache);
  CHECK(std::count(cache.begin(), cache.end(), '\n') == 6);

  // A line cut short is made again, to the same bytes; nothing else is.
  write_file(options.cache, cache.substr(0, cache.size() - 20));
  CHECK(pseudo_labels(options).digest == all.digest);
  CHECK(bytes_of(options.cache) == cache);
  options.spread_quantile = 0.5;
  const PseudoLabels half = pseudo_labels(options);
  CHECK(bytes_of(options.cache) == cache);
  CHECK(half.kept.size() + static_cast<size_t>(half.dropped) == 6);
  CHECK(half.dropped == 2);
  for (const PseudoLabel& label : half.kept) CHECK(label.spread <= half.spread_limit);
  CHECK(half.digest != all.digest);

  write_file(options.cache, "something else\n");
  CHECK(contains(message_of([&] { pseudo_labels(options); }), "not a cache of pseudo-labels"));
  options.folder = folder / "none";
  CHECK(contains(message_of([&] { pseudo_labels(options); }), "none: "));
}

TEST_CASE("a pseudo-label has the direction and unit of the labels beside it") {
  Dataset set;
  set.range = {1, 5};
  CHECK(label_of(75, set, true) == 75);
  CHECK(label_of(75, set, false) == 4);
  set.higher_is_better = false;
  CHECK(label_of(75, set, true) == 25);
  CHECK(label_of(75, set, false) == 2);
}

TEST_CASE(
    "mixed batches: labelled rows first, both kinds in their share, photos and streams numbered through") {
  const TemporaryFolder folder;
  const auto paths = write_photos(folder, 8);
  const LabelledPhotos labelled{{paths.begin(), paths.begin() + 5}, {0, 1, 2, 3, 4}},
      pseudo{{paths.begin() + 5, paths.end()}, {50, 60, 70}};
  LoaderOptions how;
  how.batch = 4, how.crops_per_image = 2, how.crop = kToyCrop;
  BatchStream mixed(labelled, pseudo, 0.25, how);
  how.batch = 3;
  BatchStream alone(labelled, {}, 0.25, how);
  CHECK(mixed.batch_size() == 4);
  CHECK(mixed.batches_per_epoch() == 3);  // 10 labelled pairs, 3 a batch
  CHECK(alone.batches_per_epoch() == 3);
  mixed.start(0, 5), alone.start(0, 5);
  for (int i = 0; i < 5; ++i) {
    const Batch batch = mixed.next(), first = alone.next();
    CHECK(batch.labelled == 3);
    for (size_t row = 0; row < 3; ++row) {
      CHECK(batch.photos[row] == first.photos[row]);
      CHECK(batch.samples[row] == first.samples[row]);
    }
    CHECK(batch.photos[3] >= 5);
    CHECK(batch.samples[3] >= 10);
    CHECK(batch.labels.span<float>()[3] == 50 + 10 * static_cast<float>(batch.photos[3] - 5));
  }
}

TEST_CASE("the averaged model follows the student") {
  QfmIqm student(toy_config(), cpu_device, DType::F32, true);
  student.init(1);
  Distillation distillation(student, toy_info(), {"", 0.75, 0, 0}, {});
  const Tensor before = student.params.master.clone();
  for (float& x : student.params.master.span<float>()) x += 1;
  distillation.follow();
  const auto now = student.params.master.span<float>(),
             average = distillation.averaged()->params.master.span<float>();
  for (size_t i = 0; i < now.size(); ++i)
    REQUIRE(average[i] == doctest::Approx(0.75 * before.span<float>()[i] + 0.25 * now[i]).epsilon(1e-6));
}

TEST_CASE("a run refuses to go on with other pseudo-labels") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  taught(config);
  train_until(config, 2);
  CHECK(contains(bytes_of(config.out + "/log.jsonl"), R"("event":"pseudo_labels","photos":6)"));
  write_image(config.unlabelled + "/7.png", drawn(60, 60, 5));
  config.resume = true;
  CHECK(contains(message_of([&] { train_until(config, 3); }),
                 "other photos or labels than the run began with"));
}

TEST_CASE("switches that do not fit together are refused") {
  const TemporaryFolder folder;
  const auto refusal = [&](auto&& change) {
    TrainConfig config = toy_run(folder, "run");
    change(config);
    return message_of([&] { validate(config); });
  };
  CHECK(contains(refusal([](auto& c) { c.select = true, c.labels = "raw"; }), "--labels raw"));
  CHECK(contains(refusal([](auto& c) { c.adversarial = 4; }), "--adversarial"));
  CHECK(contains(refusal([](auto& c) { c.unlabelled = "photos"; }), "--teacher"));
  CHECK(contains(refusal([](auto& c) { c.teacher = "t.safetensors"; }), "nothing to teach"));
  CHECK(contains(refusal([](auto& c) { c.w_distil_feat = 1; }), "--teacher or --ema"));
  CHECK(contains(refusal([](auto& c) { c.match = "matched", c.epochs = 1, c.warmup = 0; }), "--epochs is 1"));
}
