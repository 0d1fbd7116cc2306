// One training step against PyTorch, and whole runs: same bits however they were interrupted, threaded or resumed.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "engine/base/io.h"
#include "engine/base/threads.h"
#include "engine/memory/memory.h"
#include "tests/train/loop/baseline_step.h"
#include "tests/train/run/runs.h"
#include "train/optim/optimizer.h"
#include "train/run/trainer.h"

using namespace qfm;
using namespace qfm::test;
using nlohmann::json;

namespace {

// ---- PyTorch's eight steps ----

struct Golden {
  TensorFile file = TensorFile::open(golden_path("train_steps.safetensors"));
  json table = json::parse(bytes_of(golden_path("train_steps.json")));

  ModelConfig config() const {
    const json& c = table["config"];
    VitConfig vit;
    vit.image_height = vit.image_width = c["img_size"][0];
    vit.patch = c["patch_size"], vit.width = c["embed_dim"], vit.depth = c["depth"];
    vit.heads = c["num_heads"], vit.eps = c["vit_layernorm_eps"];
    vit.layer_scale = c["layer_scale"], vit.pos_embed_on_cls = c["pos_embed_on_cls"];
    QueryDecoderConfig head;
    head.queries = c["queries"], head.heads = c["decoder_nhead"], head.eps = c["decoder_layernorm_eps"];
    return {"golden", std::make_shared<const VitConfig>(vit), false, std::make_shared<const QueryDecoderConfig>(head)};
  }
};

std::string golden_name(const Param& p) {
  return p.name().rfind("vit.", 0) == 0 ? p.name().substr(4) : p.name();
}

// Key biases have no gradient but rounding noise, which Adam turns into steps: left out.
bool key_bias(const std::string& name, int64_t i, int64_t width) {
  return (name.ends_with("qkv.bias") || name.ends_with("in_proj_bias")) && i >= width && i < 2 * width;
}

// Largest difference to the tensors prefix.NAME, over their largest value if `scaled`; worst of all parameters.
double worst(const Model& model, const Tensor& flat, const Golden& golden, const std::string& prefix,
             bool scaled) {
  double result = 0;
  const Tensor values = flat.to(DType::F64);
  for (const Param& p : model.params.params()) {
    const std::string name = golden_name(p);
    const Tensor wanted = golden.file.tensor(prefix + "." + name).to(DType::F64);
    REQUIRE(wanted.shape() == p.shape());
    double difference = 0, largest = 0;
    for (int64_t i = 0; i < wanted.numel(); ++i) {
      const double w = wanted.data<double>()[i];
      largest = std::max(largest, std::fabs(w));
      if (!key_bias(name, i, model.config.features().width))
        difference = std::max(difference, std::fabs(values.data<double>()[p.entry()->offset + i] - w));
    }
    result = std::max(result, scaled ? difference / largest : difference);
  }
  return result;
}

struct Bounds {
  double loss, norm;       // relative
  double parameter, m, v;  // absolute; scaled
};

void check_steps(DType compute, const Bounds& bounds) {
  const Golden golden;
  Model model(golden.config(), cpu_device, compute, true);
  for (const Param& p : model.params.params()) {
    const auto& decayed = golden.table["decayed"];
    CHECK_MESSAGE((std::find(decayed.begin(), decayed.end(), golden_name(p)) != decayed.end()) == p.decay(),
                  p.name());
    p.master().copy_from(golden.file.tensor("init." + golden_name(p)).to(compute));
  }
  model.params.sync();
  Optimizer optimizer(model.params);
  for (const json& wanted : golden.table["steps"]) {
    const std::string batch = "batch" + std::to_string(wanted["batch"].get<int>());
    const auto got = baseline_step(model, optimizer, golden.file.tensor(batch + ".images"),
                                golden.file.tensor(batch + ".labels"), wanted["lr"]);
    const double loss = wanted["loss"], norm = wanted["grad_norm"];
    CHECK(std::fabs(got.loss - loss) <= bounds.loss * loss);
    CHECK(std::fabs(got.grad_norm - norm) <= bounds.norm * norm);
    const int64_t done = wanted["step"].get<int64_t>() + 1;
    if (done == 1 || done == 2 || done == 8)
      CHECK(worst(model, model.params.master, golden, concat("step", done), false) <= bounds.parameter);
  }
  CHECK(worst(model, optimizer.m, golden, "adam_m", true) <= bounds.m);
  CHECK(worst(model, optimizer.v, golden, "adam_v", true) <= bounds.v);
}

}  // namespace

// Ten times what PyTorch itself loses in float32 on the same steps.
TEST_CASE("eight AdamW steps equal PyTorch's: F32") {
  check_steps(DType::F32, {1.8e-6, 3.9e-6, 3.8e-6, 2.2e-5, 1.8e-5});
}
// The reference tensors are stored in float32: half an ulp of values up to 2, and of a scaled value.
TEST_CASE("eight AdamW steps equal PyTorch's: F64") {
  check_steps(DType::F64, {1e-10, 1e-10, 1.2e-7, 1.2e-7, 1.2e-7});
}

namespace {

struct OneBatch {
  Model model{toy_config(), cpu_device, DType::F32, true};
  Optimizer optimizer{model.params, {.weight_decay = 0}};
  Tensor images{{8, 3, kToyCrop, kToyCrop}}, labels{{8}};

  OneBatch() {
    model.params.initialise(3);
    Rng rng(3, "one batch");
    for (float& x : images.span<float>()) x = rng.normal();
    for (float& y : labels.span<float>()) y = 5 * rng.uniform();
  }
  StepResult step(double lr = 1e-3) { return baseline_step(model, optimizer, images, labels, lr); }
};

}  // namespace

TEST_CASE("one batch is learnt by heart") {
  OneBatch run;
  double loss = 1;
  int steps = 0;
  for (; steps < 1000 && loss >= 1e-3; ++steps) loss = run.step(steps < 300 ? 3e-3 : 5e-4).loss;
  MESSAGE("loss " << loss << " after " << steps << " steps");
  CHECK(loss < 1e-3);
}

TEST_CASE("memory is flat over steps") {
  OneBatch run;
  run.step();
  reset_peak(cpu_device);
  const size_t live = memory_count(cpu_device).live;
  run.step();
  const size_t peak = memory_count(cpu_device).peak;
  for (int i = 0; i < 20; ++i) run.step();
  CHECK(memory_count(cpu_device).live == live);
  CHECK(memory_count(cpu_device).peak == peak);
}

TEST_CASE("every allocation of a step may fail: no leak, no change, and the next step works") {
  OneBatch run, reference;
  run.step(), reference.step();
  const Tensor master = run.model.params.master.clone(), m = run.optimizer.m.clone(),
               v = run.optimizer.v.clone();
  const uint64_t before = memory_count(cpu_device).allocations;
  reference.step();
  const uint64_t allocations = memory_count(cpu_device).allocations - before;
  CHECK(allocations > 50);
  const size_t live = memory_count(cpu_device).live;
  for (uint64_t n = 1; n <= allocations; ++n) {
    fail_allocation(n);
    CHECK_THROWS_AS(run.step(), OutOfMemory);
    REQUIRE(memory_count(cpu_device).live == live);
    REQUIRE(same_bits(run.model.params.master, master));
    REQUIRE(same_bits(run.optimizer.m, m));
  }
  fail_allocation(0);
  run.step();
  CHECK(same_bits(run.model.params.master, reference.model.params.master));
  CHECK(same_bits(run.optimizer.v, reference.optimizer.v));
  CHECK_FALSE(same_bits(run.optimizer.v, v));
}

TEST_CASE("a step that is not finite throws and changes no parameter") {
  OneBatch run;
  const Tensor before = run.model.params.master.clone();
  run.images.data<float>()[7] = NAN;
  CHECK(message_of([&] { run.step(); }) == "the loss is nan");
  CHECK(same_bits(run.model.params.master, before));
  CHECK(run.optimizer.steps == 0);
}

// ---- whole runs ----

namespace {

constexpr int64_t kAll = 12;  // steps of a toy run

}  // namespace

TEST_CASE("a run writes its files, learns, and reports what it does") {
  const TemporaryFolder folder;
  const TrainConfig config = toy_run(folder, "run");
  std::vector<TrainProgress> steps;
  std::vector<EpochReport> epochs;
  TrainHooks hooks;
  hooks.command = "qfm train", hooks.version = "1";
  int64_t checked = 0;
  hooks.checking = [&](int64_t done, int64_t photos) { checked += done <= photos; };
  hooks.progress = [&](const TrainProgress& p) { steps.push_back(p); };
  hooks.epoch_done = [&](const EpochReport& e) { epochs.push_back(e); };
  const TrainResult result = train(config, hooks);

  CHECK(result.finished);
  CHECK(result.steps == kAll);
  CHECK(checked == 12);
  REQUIRE(steps.size() == kAll);
  CHECK(steps.back().step == steps.back().steps);
  CHECK(steps[4].epoch == 2);
  CHECK(steps[0].lr == doctest::Approx(2e-7));
  REQUIRE(epochs.size() == 3);
  CHECK(epochs[0].best);
  REQUIRE(epochs[0].validation);
  CHECK(epochs[0].validation->n == 3);
  double mean = 0;
  for (int i = 4; i < 8; ++i) mean += steps[static_cast<size_t>(i)].loss / 4;
  CHECK(epochs[1].loss == doctest::Approx(mean));

  const auto last = load_model(config.out + "/last.safetensors", cpu_device, DType::F32, false);
  CHECK(TensorFile::open(config.out + "/model.safetensors").entry("head.weight").dtype == "F16");
  CHECK(last.info.command == "qfm train");
  CHECK(last.info.labels_scaled);
  CHECK(last.info.label_high == 100);
  TrainConfig stored;
  merge_config_file(stored, config.out + "/config.json");
  CHECK(stored == config);
  CHECK(contains(timeless_log(config), "\"event\":\"epoch\""));
}

TEST_CASE("the same bits with other numbers of threads and workers") {
  for (const Arithmetic& in : arithmetics()) {
    CAPTURE(in.name());
    const PathScope path(in.path);
    const TemporaryFolder folder;
    const auto run = [&](int threads, int workers) {
      TrainConfig config = toy_run(folder, concat("run", threads, workers));
      config.dtype = in.dtype, config.threads = threads, config.workers = workers;
      train(config);
      return config;
    };
    const TrainConfig first = run(1, 4);
    for (const auto& [threads, workers] : {std::pair{1, 0}, {2, 1}, {2, 5}, {3, 2}})
      check_equal_runs(first, run(threads, workers));
  }
}

TEST_CASE("a run stopped anywhere and resumed has the bits of one that was not") {
  for (const Arithmetic& in : arithmetics()) {
    CAPTURE(in.name());
    const PathScope path(in.path);
    const TemporaryFolder folder;
    TrainConfig whole = toy_run(folder, "whole");
    whole.dtype = in.dtype;
    train_until(whole, kAll + 1);
    // 4, 8: the end of an epoch, before its validation.
    for (const std::vector<int64_t>& stops : {std::vector<int64_t>{1}, {3, 4}, {4, 5, 8}, {11}, {12}}) {
      TrainConfig config = whole;
      config.out = folder / concat("stops", stops.size(), "-", stops[0]);
      for (int64_t stop : stops) {
        const auto result = train_until(config, stop);
        CHECK(result.steps == stop);
        CHECK_FALSE(result.finished);
        config.resume = true;
      }
      CHECK(train_until(config, kAll + 1).finished);
      check_equal_runs(whole, config);
    }
  }
}

TEST_CASE("--average gives the mean of the weights over the last share of the updates, resumed or not") {
  const TemporaryFolder folder;
  const auto weights = [](const TrainConfig& config) {
    return TensorFile::open(config.out + "/last.safetensors").tensor("head.weight");
  };
  // The weights after each of the last four updates, from runs without an average.
  std::vector<double> expected(24, 0);
  TrainConfig plain = toy_run(folder, "plain");
  for (int64_t step = kAll - 3; step <= kAll; ++step, plain.resume = true) {
    train_until(plain, step);
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += static_cast<double>(weights(plain).span<float>()[i]) / 4;
  }
  TrainConfig whole = toy_run(folder, "whole");
  whole.average = 1.0 / 3;
  train_until(whole, kAll + 1);
  const Tensor found = weights(whole);
  for (size_t i = 0; i < expected.size(); ++i) CHECK(found.span<float>()[i] == doctest::Approx(expected[i]).epsilon(1e-6));
  CHECK(bytes_of(whole.out + "/last.safetensors") != bytes_of(plain.out + "/last.safetensors"));
  TrainConfig stopped = whole;
  stopped.out = folder / "stopped";
  for (const int64_t stop : {5, 9, 11}) train_until(stopped, stop), stopped.resume = true;
  CHECK(train_until(stopped, kAll + 1).finished);
  check_equal_runs(whole, stopped);
}

TEST_CASE("a run killed at any moment and resumed has the bits of one that was not") {
  const TemporaryFolder folder;
  set_threads(1);  // a child of fork has no other threads
  TrainConfig whole = toy_run(folder, "whole");
  whole.threads = 1;
  train_until(whole, kAll + 1);
  TrainConfig config = toy_run(folder, "killed");
  config.threads = 1;
  check_killed_run(whole, config);
  set_threads(0);
}

TEST_CASE("a folder holds one run") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  train_until(config, 2);
  CHECK(message_of([&] { train(config); }) == config.out + ": holds a run already; --resume goes on with it");
  config.resume = true, config.batch = 2;
  CHECK(contains(message_of([&] { train(config); }), "config.json: the run has batch 4, not 2"));
  {
    TrainConfig same = toy_run(folder, "run");
    same.resume = true;
    auto open = std::make_unique<RunFolder>(same);
    CHECK(message_of([&] { train(same); }) == same.out + ": another process trains here");
    CHECK_FALSE(run_folder_is_free(same.out, 0.1));
    std::thread leaves([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      open.reset();
    });
    CHECK(run_folder_is_free(same.out, 60));
    leaves.join();
    CHECK(run_folder_is_free(folder / "none", 0));
  }
  config.out = folder / "none";
  CHECK(contains(message_of([&] { train(config); }), "none/config.json: "));

  config = toy_run(folder, "run"), config.resume = true;
  const std::string state = bytes_of(config.out + "/state.safetensors");
  write_file(config.out + "/state.safetensors", state.substr(0, state.size() - 1));
  CHECK(contains(message_of([&] { train(config); }), "state.safetensors: "));
  write_file(config.out + "/state.safetensors", bytes_of(config.out + "/last.safetensors"));
  CHECK(contains(message_of([&] { train(config); }), "state.safetensors: not the state of a training run"));
}

TEST_CASE("a bad photo is named before the first step, a bad loss with its photos") {
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  const std::string photo = bytes_of(folder / "photo3.png");
  write_file(folder / "photo3.png", photo.substr(0, photo.size() / 2));
  const std::string message = message_of([&] { train(config); });
  CHECK(message.rfind(folder / "photo3.png: ", 0) == 0);
  CHECK_FALSE(std::filesystem::exists(config.out));
  write_file(folder / "photo3.png", photo);

  train_until(config, 3);
  const auto state = TensorFile::open(config.out + "/state.safetensors");
  NamedTensors tensors;
  for (const auto& [name, entry] : state.entries()) tensors.emplace_back(name, state.tensor(name));
  for (auto& [name, tensor] : tensors)
    if (name == "master.head.weight") tensor.data<float>()[0] = NAN;
  write_safetensors(config.out + "/state.safetensors", tensors, state.metadata());
  const std::string last = bytes_of(config.out + "/last.safetensors");
  config.resume = true;
  const std::string bad = message_of([&] { train(config); });
  CHECK(contains(bad, "step 4: the loss is nan; photos of the batch: "));
  CHECK(contains(bad, folder / "photo"));
  CHECK(bytes_of(config.out + "/last.safetensors") == last);
}
