// Training and scoring on CUDA (on a GPU or in host-CUDA): the CPU's losses and scores, captured graphs,
// memory that ends.
#include <cstring>

#include "engine/base/cuda.h"
#include "engine/base/memory.h"
#include "engine/profile.h"
#include "tests/runs.h"
#include "tests/tolerance.h"
#include "tests/toy.h"
#include "train/predict.h"
#include "train/pseudo_labels.h"
#include "train/train_step.h"
#include "train/trainer.h"

using namespace qfm;
using namespace qfm::test;

namespace {

constexpr int64_t kBatch = 3;
constexpr int64_t kTerms = 3 * 16 * 16;  // the toy model's longest sum: a patch embedded

Batch toy_batch(uint32_t number, int64_t size = kBatch) {
  Batch batch;
  batch.pixels = Tensor({size, kToyCrop, kToyCrop, 3}, DType::U8), batch.labels = Tensor({size});
  batch.labelled = size;
  Rng rng(4, "toy batch", number);
  for (uint8_t& x : batch.pixels.span<uint8_t>()) x = static_cast<uint8_t>(rng.below(256));
  for (int64_t i = 0; i < size; ++i) batch.mirrored.push_back(static_cast<int32_t>(rng.below(2)));
  for (float& y : batch.labels.span<float>()) y = 5 * rng.uniform();
  return batch;
}

struct ToyTraining {
  QfmIqm model;
  Optimizer optimizer;
  std::optional<Distillation> distillation;
  TrainStep step;
  ToyTraining(Device device, DType dtype, bool select = false, const MethodOptions& options = {},
              const DistilOptions* teachers = nullptr)
      : model(config(select), device, dtype, true),
        optimizer(model.params),
        distillation(taught(teachers)),
        step(model, optimizer, options, distillation ? &*distillation : nullptr) {
    model.init(3);
  }
  std::optional<Distillation> taught(const DistilOptions* teachers) {
    if (!teachers) return std::nullopt;
    return std::optional<Distillation>(std::in_place, model, toy_info(), *teachers, AdamWRule{});
  }
  static ModelConfig config(bool select) {
    ModelConfig c = toy_config();
    c.select = select;
    return c;
  }
  StepResult run(uint32_t number) { return step(toy_batch(number), 0, 1e-3); }
  std::string bits() const {
    std::string all;
    for (const Tensor& t : {model.params.master, optimizer.m, optimizer.v}) {
      const Tensor host = t.to(cpu_device);
      all.append(static_cast<const char*>(host.raw()), host.bytes());
    }
    return all;
  }
};

std::vector<double> losses_of(Device device, DType dtype, bool select) {
  ToyTraining training(device, dtype, select);
  std::vector<double> losses;
  for (uint32_t i = 0; i < 4; ++i) losses.push_back(training.run(i).loss);
  return losses;
}

struct Profiling {  // graphs are not captured while ops are timed
  Profiling() { set_profiling(true); }
  ~Profiling() {
    set_profiling(false);
    reset_profile();
  }
};

size_t live() { return memory_count(cuda_device).live; }

}  // namespace

TEST_CASE("a toy model trains on CUDA with the losses of the CPU") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (DType dtype : {DType::F32, DType::BF16})
    for (bool select : {false, true})
      check_close("losses of four steps", losses_of(cuda_device, dtype, select),
                  losses_of(cpu_device, dtype, select), dtype, kTerms);
}

TEST_CASE("a replayed step has the bits of one that is not, waits for nothing and allocates nothing") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (DType dtype : {DType::F32, DType::BF16}) {
    ToyTraining captured(cuda_device, dtype, true), eager(cuda_device, dtype, true);
    for (uint32_t i = 0; i < 5; ++i) {
      const uint64_t before = memory_count(cuda_device).allocations;
      const StepResult a = captured.run(i);
      const uint64_t allocations = memory_count(cuda_device).allocations - before;
      if (i >= 2) CHECK(allocations == 0);
      const Profiling on;
      const StepResult b = eager.run(i);
      CHECK(a.loss == b.loss);
      CHECK(a.grad_norm == b.grad_norm);
    }
    CHECK(captured.bits() == eager.bits());
    CHECK(captured.step.take_gates()->mean == eager.step.take_gates()->mean);
  }
}

// ---- with the method's switches
// --------------------------------------------------------------------------------------------------

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
  std::optional<MatchMode> match;
  int64_t trials = 0;
  double w_contrast = 0;
  bool pseudo = false;
  double ema = 0;      // above 0: features of the averaged student are learnt
  bool wider = false;  // features of a teacher of another width are learnt

  MethodOptions options() const {
    MethodOptions o;
    if (match) o.match = {*match, 2, {0.1f, 1.0f}, 0.5, trials, 3};
    o.w_contrast = w_contrast, o.batch = kPhotos;
    o.references = {1, -1, 2, 1};
    return o;
  }
};
const MethodCase kMethods[] = {
    {"matched", MatchMode::Matched},
    {"random", MatchMode::Random},
    {"gaussian", MatchMode::Gaussian},
    {"adversarial", MatchMode::Matched, 3},
    {"contrast", std::nullopt, 0, 0.5},
    {"pseudo-labels", std::nullopt, 0, 0, true},
    {"averaged", std::nullopt, 0, 0, false, 0.9},
    {"a wider teacher", std::nullopt, 0, 0, false, 0, true},
    {"everything", MatchMode::Matched, 2, 0.5, true, 0.9},
};

// The teachers of a case; the file of the wider one lies in `folder`.
std::optional<DistilOptions> teachers_of(const MethodCase& method, const TemporaryFolder& folder) {
  if (method.ema > 0) return DistilOptions{"", method.ema, 1, 0};
  if (!method.wider) return std::nullopt;
  ModelInfo info = toy_info();
  info.config.vit.width = info.config.panel.width = 36;
  QfmIqm teacher(info.config, cpu_device, DType::F32, false);
  teacher.init(8);
  save_model(folder / "teacher.safetensors", teacher, info);
  return DistilOptions{folder / "teacher.safetensors", 0, 1, 0};
}

constexpr uint32_t kEpoch = 3;  // steps of an epoch; memories of two batches are not full when it ends
constexpr uint32_t kSteps = 9;

// Everything that a step changes.
std::string whole_state(const ToyTraining& training) {
  std::string all = training.bits();
  NamedTensors more = training.step.state();
  if (training.distillation)
    for (const auto& named : training.distillation->state()) more.push_back(named);
  for (const auto& [name, tensor] : more) {
    const Tensor host = tensor.to(cpu_device);
    all.append(static_cast<const char*>(host.raw()), host.bytes());
  }
  return all;
}

}  // namespace

TEST_CASE("with each switch of the method a replayed step has the bits of one that is not") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (DType dtype : {DType::F32, DType::BF16})
    for (const MethodCase& method : kMethods) {
      CAPTURE(std::string(method.name));
      if (kSanitized && dtype == DType::BF16 && method.trials == 0) continue;
      const TemporaryFolder folder;
      const auto teachers = teachers_of(method, folder);
      const auto taught = teachers ? &*teachers : nullptr;
      ToyTraining captured(cuda_device, dtype, true, method.options(), taught),
          eager(cuda_device, dtype, true, method.options(), taught);
      for (uint32_t i = 0; i < kSteps; ++i) {
        const Batch batch = method_batch(i, method.pseudo), next = method_batch(i + 1, method.pseudo);
        const uint64_t before = memory_count(cuda_device).allocations;
        const StepResult a = captured.step(batch, i / kEpoch, 1e-3, [&] {
          if (i + 1 < kSteps) captured.step.stage(next, (i + 1) / kEpoch);
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
      const auto a = captured.step.take_match(), b = eager.step.take_match();
      REQUIRE(a.has_value() == method.match.has_value());
      if (!a) continue;
      CHECK(a->rate > 0.5);
      CHECK(a->rate == b->rate);
      CHECK(a->cosine == b->cosine);
      CHECK_FALSE(captured.step.take_match());
    }
}

TEST_CASE("with each switch of the method a toy model trains on CUDA with the losses of the CPU") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const MethodCase& method : kMethods) {
    CAPTURE(std::string(method.name));
    const TemporaryFolder folder;
    const auto teachers = teachers_of(method, folder);
    std::vector<double> losses[2];
    std::optional<MatchStatistics> matches[2];
    for (const Device device : {cpu_device, cuda_device}) {
      const size_t which = device == cpu_device ? 0 : 1;
      ToyTraining training(device, DType::F32, true, method.options(), teachers ? &*teachers : nullptr);
      for (uint32_t i = 0; i < kSteps; ++i)
        losses[which].push_back(training.step(method_batch(i, method.pseudo), i / kEpoch, 1e-5).loss);
      matches[which] = training.step.take_match();
    }
    check_close(method.name, losses[1], losses[0], DType::F32, kTerms);
    if (matches[0]) CHECK(matches[0]->rate == matches[1]->rate);
  }
}

TEST_CASE("batches of other sizes, and one staged while the step before runs") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  ToyTraining ahead(cuda_device, DType::F32), plain(cuda_device, DType::F32);
  const int64_t sizes[] = {3, 3, 3, 2, 2, 2, 3};
  for (uint32_t i = 0; i < 7; ++i) {
    const Batch batch = toy_batch(i, sizes[i]);
    ahead.step(batch, 0, 1e-3, [&] {
      if (i + 1 < 7) ahead.step.stage(toy_batch(i + 1, sizes[i + 1]), 0);
    });
    plain.step(batch, 0, 1e-3);
  }
  CHECK(ahead.bits() == plain.bits());
}

TEST_CASE("a step on CUDA that is not finite throws and changes nothing; the next one works") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  ToyTraining training(cuda_device, DType::F32), reference(cuda_device, DType::F32);
  for (uint32_t i = 0; i < 3; ++i) {  // alone, captured, replayed
    Batch bad = toy_batch(i);
    bad.norm.mean[1] = NAN;
    const std::string before = training.bits();
    CHECK(message_of([&] { training.step(bad, 0, 1e-3); }) == "the loss is nan");
    CHECK(training.bits() == before);
    CHECK(training.optimizer.steps == i);
    training.run(i), reference.run(i);
  }
  CHECK(training.bits() == reference.bits());
}

TEST_CASE("every allocation of a CUDA step may fail: no leak, no change, and the next step works") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  ToyTraining training(cuda_device, DType::F32), reference(cuda_device, DType::F32);
  const Batch batch = toy_batch(0);
  const Tensor images({kBatch, 3, kToyCrop, kToyCrop});
  cut_crops(images, batch.sources(batch.pixels.data<uint8_t>()).data(), batch.norm);
  const auto eager = [&](ToyTraining& t) {
    return train_step(t.model, t.optimizer, images, batch.labels, 1e-3);
  };
  eager(training), eager(reference);
  const std::string before = training.bits();
  const size_t held = live();
  uint64_t failures = 0;
  for (bool failed = true; failed;) {
    fail_allocation(failures + 1);
    try {
      eager(training);
      failed = false;
    } catch (const OutOfMemory&) {
      ++failures;
      REQUIRE(live() == held);
      REQUIRE(training.bits() == before);
    }
  }
  fail_allocation(0);
  CHECK(failures > 50);
  eager(reference);
  CHECK(training.bits() == reference.bits());
}

TEST_CASE("where a graph gets no memory the step runs without one") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  ToyTraining training(cuda_device, DType::F32), reference(cuda_device, DType::F32);
  training.run(0), reference.run(0);
  for (uint32_t i = 1; i < 4; ++i) {
    fail_allocation(20 * i);
    training.run(i);
    fail_allocation(0);
    reference.run(i);
  }
  CHECK(training.bits() == reference.bits());
}

TEST_CASE("scores on CUDA: the CPU's, the same each time, and in halved batches where memory ends") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const ModelInfo info = toy_info();
  const PredictOptions options{.crops = parse_crops("random:21"), .resize = {}, .seed = 4};
  const Image photo = drawn(100, 50, 1), other = drawn(41, 80, 2);
  for (DType dtype : {DType::F32, DType::BF16}) {
    QfmIqm on_cpu(toy_config(), cpu_device, dtype, false), on_cuda(toy_config(), cuda_device, dtype, false);
    on_cpu.init(7), on_cuda.init(7);
    const Predictor cpu(on_cpu, info, options), cuda(on_cuda, info, options);
    const auto close = [&](const char* what, double found, double expected) {
      check_close(what, std::vector<double>{found}, std::vector<double>{expected}, dtype, kTerms);
    };
    const Prediction expected = cpu(photo), found = cuda(photo);
    close("score", found.score, expected.score);
    close("score of another photo", cuda(other).score, cpu(other).score);
    for (int again = 0; again < 3; ++again) CHECK(cuda(photo).score == found.score);
    CHECK(cuda(photo).spread == found.spread);

    const Predictor fresh(on_cuda, info, options);
    for (uint64_t n : {5, 30, 60, 90}) {
      fail_allocation(n);
      CHECK(fresh(photo).score == found.score);
      fail_allocation(0);
    }
    const auto a = cpu.embed(photo), b = cuda.embed(photo);
    const auto widened = [](const Tensor& t) {
      const auto s = t.span<float>();
      return std::vector<double>(s.begin(), s.end());
    };
    check_close("embedding", widened(b.patches), widened(a.patches), dtype, kTerms);
  }
}

TEST_CASE("a teacher on CUDA gives the pseudo-labels of one on the CPU") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const TemporaryFolder folder;
  TrainConfig config = toy_run(folder, "run");
  taught(config);
  std::vector<double> qualities[2];
  for (const Device device : {cpu_device, cuda_device}) {
    PseudoLabelOptions options{config.teacher, config.unlabelled, folder / name_of(device), 1.0};
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
    config.device = "cuda", config.match = match;
    if (match != "off") config.tau_q = 0.3, config.tau_s = 1, config.memory = 2;
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
    const SafeTensors last = SafeTensors::open(config.out + "/last.safetensors");
    std::string bits;
    for (const auto& [name, entry] : last.entries()) {
      const Tensor t = last.tensor(name);
      bits.append(static_cast<const char*>(t.raw()), t.bytes());
    }
    return bits;
  };
  for (const char* match : {"off", "matched", "random", "gaussian"}) {
    CAPTURE(std::string(match));
    const bool same = run(match, "whole", {}) == run(match, "stopped", {1, 4, 6});
    CHECK(same);
  }
}
