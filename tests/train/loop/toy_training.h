// A toy model, its optimizer and step on a device, and batches for it.
#pragma once
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "engine/profile.h"
#include "tests/toy.h"
#include "train/loop/train_step.h"

namespace qfm::test {

constexpr int64_t kBatch = 3;
constexpr int64_t kTerms = 3 * 16 * 16;  // the toy model's longest sum: a patch embedded

inline Batch toy_batch(uint32_t number, int64_t size = kBatch) {
  Batch batch;
  batch.pixels = Tensor({size, kToyCrop, kToyCrop, 3}, DType::U8), batch.labels = Tensor({size});
  batch.labelled = size;
  Rng rng(4, "toy batch", number);
  for (uint8_t& x : batch.pixels.span<uint8_t>()) x = static_cast<uint8_t>(rng.below(256));
  for (int64_t i = 0; i < size; ++i) batch.mirrored.push_back(static_cast<int32_t>(rng.below(2)));
  for (float& y : batch.labels.span<float>()) y = 5 * rng.uniform();
  return batch;
}

// (n, 2): points of a circle, in no order.
inline Tensor drawn_directions(int64_t n) {
  const Tensor rows({n, 2});
  Rng rng(4, "directions");
  for (int64_t i = 0; i < n; ++i) {
    const double angle = 6.28 * rng.uniform();
    rows.span<float>()[static_cast<size_t>(2 * i)] = static_cast<float>(std::cos(angle));
    rows.span<float>()[static_cast<size_t>(2 * i + 1)] = static_cast<float>(std::sin(angle));
  }
  return rows;
}

struct ToyTraining {
  Model model;
  Objectives objectives;  // until `step` has them
  Optimizer optimizer;
  TrainStep step;
  ToyTraining(Device device, DType dtype, bool select = false, const Options& options = {},
              const std::vector<int64_t>& references = {}, int64_t batch = kBatch)
      : model(config(select)),
        objectives(ready(device, dtype, options, references, batch)),
        optimizer(model.params),
        step(model, optimizer, std::move(objectives)) {}
  Objectives ready(Device device, DType dtype, const Options& options, const std::vector<int64_t>& references,
                   int64_t batch) {
    // Of seventeen photos, for objectives that want to know all: opinions, and what they show.
    const Semantics semantics{2, [] { return drawn_directions(17); }};
    std::vector<float> scores;
    for (int i = 0; i < 17; ++i) scores.push_back(0.5f + 0.005f * static_cast<float>(i));
    Objectives made =
        make_objectives({options, model, toy_info(), device, dtype, batch, 3, references, scores, semantics});
    model.params.allocate(device, dtype, true);
    model.params.initialise(3);
    for (const auto& one : made) one->started();
    return made;
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

struct Profiling {  // graphs are not captured while ops are timed
  Profiling() { set_profiling(true); }
  ~Profiling() {
    set_profiling(false);
    reset_profile();
  }
};

}  // namespace qfm::test
