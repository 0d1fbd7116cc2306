// Training with the method's switches: off they leave the baseline as it was, on they resume to the same bits
// and leave nothing in the checkpoint.
#include <cmath>
#include <set>

#include "engine/base/cpu.h"
#include "engine/base/rng.h"
#include "engine/base/threads.h"
#include "layers/noise.h"
#include "tests/scopes.h"
#include "tests/train/run/runs.h"
#include "train/loop/batch_stream.h"
#include "train/predict/evaluate.h"
#include "train/run/pseudo_labels.h"

using namespace qfm;
using namespace qfm::test;

namespace {

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
  for (CpuIsa path : {CpuIsa::Plain, CpuIsa::Avx2, CpuIsa::Avx512}) {
    if (!available(path)) continue;
    CAPTURE(name_of(path));
    const PathScope guard(path);
    const TemporaryFolder folder;
    TrainConfig config = toy_run(folder, "run");
    config.epochs = 5, config.device = "cpu";
    const Curve curve = curve_of(config);
    CHECK(curve.loss == recorded[name_of(path)]["loss"].get<std::vector<double>>());
    CHECK(curve.norm == recorded[name_of(path)]["grad_norm"].get<std::vector<double>>());
  }
}

// At a rate that moves the loss by three parts in a hundred.
TEST_CASE("in BF16 20 updates follow those in F32, without drift") {
  for (const Arithmetic& in : arithmetics()) {
    CAPTURE(in.name());
    const PathScope guard(in.path);
    const TemporaryFolder folder;
    TrainConfig config = toy_run(folder, "f32"), narrow = toy_run(folder, "narrow");
    for (TrainConfig* one : {&config, &narrow}) one->epochs = 5, one->lr = 3e-3;
    config.dtype = "f32", narrow.dtype = in.dtype;
    const Curve expected = curve_of(config), found = curve_of(narrow);
    REQUIRE(found.loss.size() == 20);
    double drift = 0;
    for (size_t i = 0; i < 20; ++i) {
      CHECK(found.loss[i] == doctest::Approx(expected.loss[i]).epsilon(1e-3));
      CHECK(found.norm[i] == doctest::Approx(expected.norm[i]).epsilon(1e-2));
      drift += (found.loss[i] / expected.loss[i] - 1) / 20;
    }
    CHECK(std::fabs(drift) < 1e-4);
  }
}

// ---- each switch ----

namespace {

struct Switch {
  const char* name;
  void (*turn)(TrainConfig&);
};
// Wide thresholds: the toy photos' features are much alike.
void match_as(TrainConfig& config, const char* mode) {
  config.objectives.set("match", std::string(mode)).set("tau-q", 0.3).set("tau-s", 1).set("memory", 2);
}
// The toy checkpoint is one of ours: as --init it would be refused as a measure of what photos show.
void match_whole_set(TrainConfig& config, const char* mode) {
  config.objectives.set("method", std::string("v2")).set("match", std::string(mode)).set("tau-q", 0.3);
  config.objectives.set("semantics", config.init);
}
constexpr int64_t kMore = 1000;  // steps that no toy run has
const std::vector<Switch> kSwitches = {
    {"select", [](TrainConfig& c) { c.select = true; }},
    {"matched", [](TrainConfig& c) { match_as(c, "matched"); }},
    {"random", [](TrainConfig& c) { match_as(c, "random"); }},
    {"gaussian", [](TrainConfig& c) { match_as(c, "gaussian"); }},
    {"adversarial", [](TrainConfig& c) { match_as(c, "matched"), c.objectives.set("adversarial", 3); }},
    {"whole set",
     [](TrainConfig& c) {
       match_whole_set(c, "random"), c.objectives.set("adversarial", 3).set("noise-on", std::string("class"));
     }},
    {"whole set, gaussian",
     [](TrainConfig& c) {
       match_whole_set(c, "gaussian"), c.objectives.set("cons-target", std::string("label"));
     }},
    {"whole set, everything",
     [](TrainConfig& c) {
       taught(c), match_whole_set(c, "matched");
       c.select = true, c.objectives.set("gate", std::string("closed-form")).set("ema", 0.9);
     }},
    {"live gate",
     [](TrainConfig& c) {
       match_as(c, "matched"), c.select = true, c.objectives.set("gate", std::string("live"));
     }},
    {"contrast", [](TrainConfig& c) { c.objectives.set("w-contrast", 0.5); }},
    {"averaged", [](TrainConfig& c) { c.objectives.set("ema", 0.9).set("w-distil-feat", 1); }},
    {"taught", taught},
    {"everything",
     [](TrainConfig& c) {
       taught(c), match_as(c, "matched");
       c.select = true, c.objectives.set("adversarial", 4).set("w-contrast", 0.1).set("ema", 0.9);
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
  CHECK_FALSE(epochs[0].objectives.contains("match"));
  for (const EpochReport& e : epochs) {
    const auto& gate = e.objectives.at("gate");
    CHECK(gate["channels"] == 24);
    CHECK(gate["mean"].get<double>() == doctest::Approx(0.982).epsilon(0.01));  // sigmoid(4): the gate starts open
    CHECK(gate["closed"] == 0);
    CHECK(gate["entropy"].get<double>() == doctest::Approx(1).epsilon(1e-3));  // all are equal
  }
  const auto& match = epochs[2].objectives.at("match");
  CHECK(match["rate"] > 0.5);
  CHECK(match["rate"] <= 1);
  CHECK(match["score_distance"].get<double>() <= 0.3);
  CHECK(match["cosine"].get<double>() <= 1);
  CHECK(contains(timeless_log(config), "\"match\":{"));
  CHECK(contains(timeless_log(config), "\"collapsed\":false"));
}

TEST_CASE("with the whole set as memory an epoch reports what noise does, and whether it does anything") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  match_whole_set(config, "matched");
  std::vector<EpochReport> epochs;
  TrainHooks hooks;
  hooks.epoch_done = [&](const EpochReport& e) { epochs.push_back(e); };
  train(config, hooks);
  REQUIRE(epochs.size() == 3);
  const auto& first = epochs[0].objectives.at("match");
  CHECK(first.size() == 1);  // no noise yet
  CHECK(std::fabs(first["descriptor_quality"].get<double>()) <= 1);
  const auto& match = epochs[2].objectives.at("match");
  CHECK(match["rate"] == 1);  // 9 photos 5 points apart, 30 may lie between partners
  CHECK(match["score_distance"].get<double>() <= 0.3);
  CHECK(match["cosine"].get<double>() < 0);  // of centred descriptors the least
  CHECK(match["partners"].get<int64_t>() >= 2);
  CHECK(match["shift"].get<double>() > 0);
  CHECK(match["shift_p90"].get<double>() >= match["shift"].get<double>() / 2);
  CHECK(match["no_effect"] == true);  // the toy's head has learnt next to nothing
  CHECK(contains(timeless_log(config), "\"no_effect\":true"));
}

TEST_CASE("a gate that is closed is logged as collapsed, and told by its checkpoint") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  ModelInfo info = toy_info();
  info.config.select = true;
  Model model(info.config, cpu_device, DType::F32, false);
  model.params.initialise(5);
  fill(model.select->fc2.bias, constant(-4));
  save_model(config.init, model, info);
  config.epochs = 1, config.warmup = 0;
  train(config);
  CHECK(contains(timeless_log(config), "\"collapsed\":true"));
  const auto loaded = load_model(config.out + "/last.safetensors", cpu_device, DType::F32, false);
  const Tensor gate = loaded.model->select->gate_at_mean();
  for (float g : gate.span<float>()) CHECK(g < kClosedGate);
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
  const TensorFile file = TensorFile::open(path);
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

TEST_CASE("switches that do not fit together are refused") {
  const TemporaryFolder folder;
  const auto refusal = [&](auto&& change) {
    TrainConfig config = toy_run(folder, "run");
    change(config);
    return message_of([&] { validate(config); });
  };
  CHECK(contains(refusal([](auto& c) { c.select = true, c.labels = "raw"; }), "--labels raw"));
  CHECK(contains(refusal([](auto& c) { c.objectives.set("adversarial", 4); }), "--adversarial"));
  CHECK(contains(refusal([](auto& c) { c.objectives.set("unlabelled", std::string("photos")); }), "--teacher"));
  CHECK(contains(refusal([](auto& c) { c.objectives.set("teacher", std::string("t.safetensors")); }), "nothing to teach"));
  CHECK(contains(refusal([](auto& c) { c.objectives.set("w-distil-feat", 1); }), "--teacher or --ema"));
  CHECK(contains(refusal([](auto& c) { c.objectives.set("match", std::string("matched")), c.epochs = 1, c.warmup = 0; }), "--epochs is 1"));
  CHECK(contains(refusal([](auto& c) { match_whole_set(c, "matched"), c.objectives.set("tau-s", 0.5); }),
                 "--tau-s is of --method v1"));
  CHECK(contains(refusal([](auto& c) { c.objectives.set("shift", 3); }), "--shift is of --method v2"));
  CHECK(contains(refusal([](auto& c) { c.objectives.set("gate", std::string("live")); }), "--select on"));
  const auto refused_run = [&](auto&& change) {
    TrainConfig config = toy_run(folder, "run");
    match_whole_set(config, "matched"), change(config);
    return message_of([&] { train(config); });
  };
  CHECK(contains(refused_run([](auto& c) { c.objectives.set("semantics", std::string()); }),
                 "features measure quality"));
  CHECK(contains(refused_run([](auto& c) { c.objectives.set("tau-q", 0.01); }), "within 1 points"));
}
