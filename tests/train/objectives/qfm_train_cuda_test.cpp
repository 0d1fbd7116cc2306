// Training on CUDA with the switches of the method: the CPU's losses, captured graphs, whole runs.
#include "engine/cuda/cuda.h"
#include "engine/memory/memory.h"
#include "tests/tolerance.h"
#include "tests/train/loop/toy_training.h"
#include "tests/train/run/runs.h"
#include "train/run/pseudo_labels.h"
#include "train/run/trainer.h"

using namespace qfm;
using namespace qfm::test;

namespace {

constexpr int64_t kPhotos = 6;  // of a batch

// Labels on 0-100 that lie close together, photos that come again, and with `pseudo` two rows of a teacher's.
Batch method_batch(uint32_t number, bool pseudo) {
  Batch batch = toy_batch(number, kPhotos);
  for (int64_t i = 0; i < kPhotos; ++i) {
    batch.labels.data<float>()[i] = 50 + 2 * batch.labels.data<float>()[i];
    batch.photos.push_back((number * 5 + i) % 17);
    batch.samples.push_back(static_cast<uint32_t>(number * kPhotos + i));
  }
  if (pseudo) batch.labelled = kPhotos - 2;
  return batch;
}

struct MethodCase {
  const char* name;
  const char* match = "off";
  int64_t num_candidates = 0;
  double w_contrast = 0;
  bool pseudo = false;
  double ema = 0;      // above 0: features of the averaged student are learnt
  bool wider = false;  // features of a teacher of another width are learnt
  bool whole_set = false;  // --method v2
  bool matches() const { return std::string(match) != "off"; }
};
const MethodCase kMethods[] = {
    {"matched", "matched"},
    {"random", "random"},
    {"gaussian", "gaussian"},
    {"adversarial", "matched", 3},
    {"contrast", "off", 0, 0.5},
    {"pseudo-labels", "off", 0, 0, true},
    {"averaged", "off", 0, 0, false, 0.9},
    {"a wider teacher", "off", 0, 0, false, 0, true},
    {"everything", "matched", 2, 0.5, true, 0.9},
    {"whole set", "matched", 2, 0, false, 0, false, true},
    {"whole set, gaussian", "gaussian", 0, 0, false, 0, false, true},
};

// Under a sanitizer, where a step takes seconds, the cases whose every op "everything" has too are left out.
std::vector<MethodCase> method_cases() {
  std::vector<MethodCase> cases(std::begin(kMethods), std::end(kMethods));
  if (kSanitized)
    std::erase_if(cases, [](const MethodCase& c) {
      const std::string name = c.name;
      return name == "matched" || name == "adversarial" || name == "contrast" || name == "pseudo-labels" ||
             name == "averaged";
    });
  return cases;
}

// The flags of a case; the wider teacher's file lies in `folder`.
Options options_of(const MethodCase& method, const TemporaryFolder& folder) {
  Options o;
  o.set("match", std::string(method.match)).set("tau-q", 0.1);
  if (method.whole_set) o.set("method", std::string("v2"));
  else o.set("memory", 2).set("tau-s", 1);
  o.set("adversarial", method.num_candidates).set("w-contrast", method.w_contrast).set("ema", method.ema);
  if (method.pseudo) o.set("unlabelled", std::string("drawn"));
  if (method.ema > 0) o.set("w-distil-feat", 1);
  if (!method.wider) return o;
  ModelInfo info = toy_info();
  info.config = toy_config(36);
  Model teacher(info.config, cpu_device, DType::F32, false);
  teacher.params.initialise(8);
  save_model(folder / "teacher.safetensors", teacher, info);
  return o.set("teacher", folder / "teacher.safetensors").set("w-distil-feat", 1);
}
const std::vector<int64_t> kReferences = {1, -1, 2, 1};

constexpr uint32_t kEpoch = 3;  // steps of an epoch; memories of two batches are not full when it ends
constexpr uint32_t kSteps = kSanitized ? 6 : 9;

// Everything that a step changes.
std::string whole_state(const ToyTraining& training) {
  std::string all = training.bits();
  for (const auto& [name, tensor] : training.step.state()) {
    const Tensor host = tensor.to(cpu_device);
    all.append(static_cast<const char*>(host.raw()), host.bytes());
  }
  return all;
}

}  // namespace

TEST_CASE("with each switch of the method a replayed step has the bits of one that is not") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (DType dtype : {DType::F32, DType::BF16})
    for (const MethodCase& method : method_cases()) {
      CAPTURE(std::string(method.name));
      if (kSanitized && dtype == DType::BF16 && method.num_candidates == 0) continue;
      const TemporaryFolder folder;
      const Options options = options_of(method, folder);
      ToyTraining captured(cuda_device, dtype, true, options, kReferences, kPhotos),
          eager(cuda_device, dtype, true, options, kReferences, kPhotos);
      for (uint32_t i = 0; i < kSteps; ++i) {
        const Batch batch = method_batch(i, method.pseudo), next = method_batch(i + 1, method.pseudo);
        const uint64_t before = memory_count(cuda_device).allocations;
        const StepResult a = captured.step(batch, i / kEpoch, 1e-3, [&] {
          if (i + 1 < kSteps) captured.step.upload(next, (i + 1) / kEpoch);
        });
        const uint64_t allocations = memory_count(cuda_device).allocations - before;
        // Alone, captured and replayed, before and after matching begins.
        if (i == 2 || i > kEpoch + 1) CHECK(allocations == 0);
        const Profiling on;
        const StepResult b = eager.step(batch, i / kEpoch, 1e-3);
        CHECK(a.loss == b.loss);
        CHECK(a.grad_norm == b.grad_norm);
      }
      const bool same = whole_state(captured) == whole_state(eager);
      CHECK(same);
      const auto a = captured.step.statistics(), b = eager.step.statistics();
      REQUIRE(a.contains("match") == method.matches());
      CHECK(a == b);
      if (method.matches()) CHECK(a["match"]["rate"] > 0.5);
      CHECK(captured.step.statistics().empty());
    }
}

TEST_CASE("with each switch of the method a toy model trains on CUDA with the losses of the CPU") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const MethodCase& method : method_cases()) {
    CAPTURE(std::string(method.name));
    const TemporaryFolder folder;
    const Options options = options_of(method, folder);
    std::vector<double> losses[2];
    nlohmann::ordered_json statistics[2];
    for (const Device device : {cpu_device, cuda_device}) {
      const size_t which = device == cpu_device ? 0 : 1;
      ToyTraining training(device, DType::F32, true, options, kReferences, kPhotos);
      for (uint32_t i = 0; i < kSteps; ++i)
        losses[which].push_back(training.step(method_batch(i, method.pseudo), i / kEpoch, 1e-5).loss);
      statistics[which] = training.step.statistics();
    }
    check_close(method.name, losses[1], losses[0], DType::F32, kTerms);
    if (method.matches()) CHECK(statistics[0]["match"]["rate"] == statistics[1]["match"]["rate"]);
  }
}

TEST_CASE("a teacher on CUDA gives the pseudo-labels of one on the CPU") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  taught(config);
  std::vector<double> qualities[2];
  for (const Device device : {cpu_device, cuda_device}) {
    PseudoLabelOptions options{config.objectives.text("teacher"), config.objectives.text("unlabelled"), folder / name_of(device), 1.0};
    options.device = device;
    for (const PseudoLabel& label : pseudo_labels(options).kept)
      qualities[device == cpu_device ? 0 : 1].push_back(label.quality);
  }
  check_close("pseudo-labels", qualities[1], qualities[0], DType::F32, kTerms);
}

TEST_CASE("a run on CUDA, stopped and resumed, has the bits of one that was not") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const TemporaryFolder folder;
  const auto run = [&](const std::string& match, const std::string& out, std::vector<int64_t> stops) {
    TrainConfig config = toy_run(folder, match + out);
    config.device = "cuda";
    config.objectives.set("match", match).set("tau-q", 0.3).set("tau-s", 1).set("memory", 2);
    TrainResult result;
    stops.push_back(1 << 20);
    for (int64_t stop : stops) {
      int64_t done = 0;
      TrainHooks hooks;
      hooks.progress = [&](const TrainProgress& p) { done = p.step; };
      hooks.should_stop = [&] { return done >= stop; };
      result = train(config, hooks);
      config.resume = true;
    }
    CHECK(result.finished);
    const TensorFile last = TensorFile::open(config.out + "/last.safetensors");
    std::string bits;
    for (const auto& [name, entry] : last.entries()) {
      const Tensor t = last.tensor(name);
      bits.append(static_cast<const char*>(t.raw()), t.bytes());
    }
    return bits;
  };
  for (const char* match : {"off", "matched", "random", "gaussian"}) {
    CAPTURE(std::string(match));
    if (kSanitized && std::string(match) != "matched") continue;
    const bool same = run(match, "whole", {}) == run(match, "stopped", {1, 4, 6});
    CHECK(same);
  }
}
