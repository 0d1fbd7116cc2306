// Training and scoring on CUDA (on a GPU or in host-CUDA): the CPU's losses and scores, captured graphs,
// memory that ends.
#include "engine/cuda/cuda.h"
#include "engine/memory/memory.h"
#include "kernels/vendor/vendor_case.h"
#include "tests/scopes.h"
#include "tests/tolerance.h"
#include "tests/train/loop/baseline_step.h"
#include "tests/train/loop/toy_training.h"
#include "train/predict/predict.h"

using namespace qfm;
using namespace qfm::test;

namespace {

std::vector<double> losses_of(Device device, DType dtype, bool select) {
  ToyTraining training(device, dtype, select);
  std::vector<double> losses;
  for (uint32_t i = 0; i < 4; ++i) losses.push_back(training.run(i).loss);
  return losses;
}

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
    CHECK(captured.step.statistics() == eager.step.statistics());
  }
}

TEST_CASE("batches of other sizes, and one staged while the step before runs") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  ToyTraining ahead(cuda_device, DType::F32), plain(cuda_device, DType::F32);
  const int64_t sizes[] = {3, 3, 3, 2, 2, 2, 3};
  for (uint32_t i = 0; i < 7; ++i) {
    const Batch batch = toy_batch(i, sizes[i]);
    ahead.step(batch, 0, 1e-3, [&] {
      if (i + 1 < 7) ahead.step.upload(toy_batch(i + 1, sizes[i + 1]), 0);
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

TEST_CASE("any allocation of a CUDA step may fail: no leak, no change, and the next step works") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  ToyTraining training(cuda_device, DType::F32), reference(cuda_device, DType::F32);
  const Batch batch = toy_batch(0);
  const Tensor images({kBatch, 3, kToyCrop, kToyCrop});
  cut_crops(images, batch.sources(batch.pixels.data<uint8_t>()).data(), batch.norm);
  const auto eager = [&](ToyTraining& t) {
    return baseline_step(t.model, t.optimizer, images, batch.labels, 1e-3);
  };
  eager(training), eager(reference);
  const std::string before = training.bits();
  const size_t held = live();
  uint64_t nth = 1;
  for (bool failed = true; failed;) {
    fail_allocation(nth);
    try {
      eager(training);
      failed = false;
    } catch (const OutOfMemory&) {
      nth += kSanitized ? 3 : 1;
      REQUIRE(live() == held);
      REQUIRE(training.bits() == before);
    }
  }
  fail_allocation(0);
  CHECK(nth > 50);
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

TEST_CASE("scores on CUDA: the CPU's, and the same each time") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const ModelInfo info = toy_info();
  const PredictOptions options{.crops = parse_crops("random:21"), .resize = {}, .seed = 4};
  const Image photo = drawn(100, 50, 1), other = drawn(41, 80, 2);
  for (DType dtype : {DType::F32, DType::BF16}) {
    Model on_cpu(toy_config(), cpu_device, dtype, false), on_cuda(toy_config(), cuda_device, dtype, false);
    on_cpu.params.initialise(7), on_cuda.params.initialise(7);
    const Predictor cpu(on_cpu, info, options), cuda(on_cuda, info, options);
    const auto close = [&](const char* what, double found, double expected) {
      check_close(what, std::vector<double>{found}, std::vector<double>{expected}, dtype, kTerms);
    };
    const Prediction expected = cpu(photo), found = cuda(photo);
    close("score", found.score, expected.score);
    close("score of another photo", cuda(other).score, cpu(other).score);
    for (int again = 0; again < 3; ++again) CHECK(cuda(photo).score == found.score);
    CHECK(cuda(photo).spread == found.spread);

    const auto a = cpu.embed(photo), b = cuda.embed(photo);
    const auto widened = [](const Tensor& t) {
      const auto s = t.span<float>();
      return std::vector<double>(s.begin(), s.end());
    };
    check_close("embedding", widened(b.patches), widened(a.patches), dtype, kTerms);
  }
}

TEST_CASE("scores on CUDA have the same bits in halved batches where memory ends") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const OwnKernels own;
  const Notes notes;
  const ModelInfo info = toy_info();
  const PredictOptions options{.crops = parse_crops("random:21"), .resize = {}, .seed = 4};
  const Image photo = drawn(100, 50, 1);
  for (DType dtype : {DType::F32, DType::BF16}) {
    Model model(toy_config(), cuda_device, dtype, false);
    model.params.initialise(7);
    const double whole = Predictor(model, info, options)(photo).score;
    const Predictor predictor(model, info, options);
    for (uint64_t n : {5, 30, 60, 90}) {
      fail_allocation(n);
      CHECK(predictor(photo).score == whole);
      fail_allocation(0);
    }
  }
  CHECK(notes.texts.empty());
}

#ifdef QFM_CUDA_HOST
namespace {

// In the place of cuBLASLt, until the end of the scope.
struct StandIn {
  explicit StandIn(VendorStandIn library) { vendor_stand_in() = std::move(library); }
  ~StandIn() {
    vendor_stand_in() = nullptr;
    forget_vendor_failures();
  }
};

}  // namespace

TEST_CASE("a photo scored in halved batches by a vendor's products is told of, once") {
  const Notes notes;
  const StandIn library([](const std::string&, void*, size_t, const auto& own) { own(); });
  const ModelInfo info = toy_info();
  Model model(toy_config(), cuda_device, DType::F32, false);
  model.params.initialise(7);
  const Predictor predictor(model, info, {.crops = parse_crops("random:21"), .resize = {}, .seed = 4});
  const Image photo = drawn(100, 50, 1);
  predictor(photo), predictor(photo);
  CHECK(notes.texts.empty());
  for (int again = 0; again < 2; ++again) {
    fail_allocation(5);
    predictor(photo);
    fail_allocation(0);
  }
  REQUIRE(notes.texts.size() == 1);
  CHECK(contains(notes.texts[0], "scored in batches of 8 crops"));
}

TEST_CASE("where a library fails at a product, in whatever step, our own kernel serves: the same bits") {
  constexpr uint32_t kSteps = 5;
  for (DType dtype : {DType::F32, DType::BF16}) {
    ToyTraining reference(cuda_device, dtype, true);
    int products = 0;  // of one step
    {
      const StandIn library([&](const std::string&, void*, size_t, const auto& own) { ++products, own(); });
      ToyTraining(cuda_device, dtype, true).run(0);
    }
    REQUIRE(products > 20);
    for (uint32_t i = 0; i < kSteps; ++i) reference.run(i);
    // The first step runs by itself, the second is captured.
    std::vector<int> which{1, products / 2, products, products + 1, products + products / 2, 2 * products};
    if (kSanitized) which = {products / 2, products + products / 2};
    for (const int nth : which) {
      CAPTURE(nth);
      const Notes notes;
      std::string failing;
      int calls = 0;
      const StandIn library([&](const std::string& name, void* output, size_t bytes, const auto& own) {
        CHECK(name != failing);
        if (++calls != nth) return own();
        std::memset(output, 0xff, bytes);  // NaN
        failing = name;
        throw VendorError("cublaslt: matmul: CUBLAS_STATUS_EXECUTION_FAILED", __FILE__, __LINE__);
      });
      ToyTraining training(cuda_device, dtype, true);
      for (uint32_t i = 0; i < kSteps; ++i) training.run(i);
      CHECK(calls >= nth);
      CHECK(training.bits() == reference.bits());
      REQUIRE(vendor_failures().size() == 1);
      CHECK(notes.texts == std::vector<std::string>{failing + ": cublaslt: matmul: " +
                                                    "CUBLAS_STATUS_EXECUTION_FAILED; it is not tried again"});
    }
  }
}
#endif
