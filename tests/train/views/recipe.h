// A model, its objectives, optimizer and step, for recipes that no flag of `qfm train` reaches yet.
#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "models/backbones/vit.h"
#include "models/pretrained.h"
#include "models/registry.h"
#include "tests/support.h"
#include "train/image/photo_files.h"
#include "train/loop/train_step.h"
#include "train/views/view_source.h"

namespace qfm::test {

// QFM_LONG_TESTS=1: minutes of training, with figures for train/experiments/results/newcomers.
inline bool long_tests() { return std::getenv("QFM_LONG_TESTS") != nullptr; }

inline ModelConfig small_vit(int64_t crop, int64_t patch, int64_t width, int64_t depth, int64_t heads,
                             const std::string& head) {
  VitConfig vit;
  vit.image_height = vit.image_width = crop, vit.patch = patch;
  vit.width = width, vit.depth = depth, vit.heads = heads;
  return {"small", std::make_shared<const VitConfig>(vit), false, standard_head(head)};
}

struct Recipe {
  Model model;
  Objectives objectives;  // until `step` has them
  Optimizer optimizer;
  TrainStep step;
  Recipe(const ModelConfig& config, int64_t rows, const Options& options, const std::string& init = "")
      : model(config),
        objectives(ready(rows, options)),
        optimizer(model.params),
        step(model, optimizer, std::move(objectives)) {
    if (!init.empty()) load_pretrained(model, init);
  }

  // Linear warm-up over a tenth of the steps, then half a cosine; report(number, loss) after each.
  template <class Report>
  void train(BatchSource& source, int64_t steps, double lr, const Report& report) {
    source.start(0, steps);
    for (int64_t i = 0; i < steps; ++i) {
      const double warm = std::min(1.0, static_cast<double>(10 * (i + 1)) / static_cast<double>(steps)),
                   rate =
                       lr * warm * 0.5 *
                       (1 + std::cos(std::numbers::pi * static_cast<double>(i) / static_cast<double>(steps)));
      const auto epoch = static_cast<uint32_t>(i / source.batches_per_epoch());
      report(i, step(source.next(), epoch, rate).loss);
    }
  }

  // What the model says of a batch, without history.
  Model::Output look(const Batch& batch) const {
    const NoGrad guard;
    return model(images(batch));
  }
  Tensor images(const Batch& batch) const {
    const Tensor out({batch.pixels.dim(0), 3, batch.pixels.dim(1), batch.pixels.dim(2)},
                     model.params.compute());
    cut_crops(out, batch.sources(batch.pixels.data<uint8_t>()).data(), batch.norm);
    return out;
  }

 private:
  Objectives ready(int64_t rows, const Options& options) {
    ModelInfo info;
    info.config = model.config;
    Objectives made = make_objectives({options, model, info, cpu_device, DType::F32, rows, 3});
    model.params.allocate(cpu_device, DType::F32, true);
    model.params.initialise(3);
    for (const auto& one : made) one->started();
    return made;
  }
};

struct Stopwatch {
  std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  }
};

}  // namespace qfm::test
