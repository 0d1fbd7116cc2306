// Objective: a term of the loss. One file, one equation, one test; a new one is its file and a line in registry.cpp.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/checkpoint.h"
#include "train/objectives/batch.h"
#include "train/objectives/options.h"

namespace qfm {

struct StepState;

// What an objective sees of a step, on the model's device.
struct Step {
  const Model& model;
  const Tensor& images;  // (B, 3, H, W)
  const Model::Output& out;
  const Var& score;      // (B), out.scores.score in the accumulation type: in bf16 a label of 71.3 would be one of 71.5
  const Tensor& labels;  // (B), accumulation type
  const HostInputs& inputs;
};

class Objective {
 public:
  virtual ~Objective() = default;
  virtual std::string name() const = 0;  // in the log
  double weight = 1;                     // factor of its loss in the sum

  // Steps of one phase compute the same terms.
  virtual int64_t phase(uint32_t /*epoch*/) const { return 0; }
  // Called where a step's rows, labelled rows or phase are not those of the one before, outside of captured graphs.
  virtual void plan(int64_t /*rows*/, int64_t /*labelled*/, int64_t /*phase*/) {}
  // Draws on the host: tensors under names of its own.
  virtual void prepare(const Batch& /*batch*/, uint32_t /*epoch*/, HostInputs& /*inputs*/) const {}
  // The loss, a scalar in the accumulation type; without a value where this step has none. Shapes depend on plan()
  // only and nothing waits for the device, so that it can be part of a captured graph.
  virtual Var operator()(const Step& step) = 0;
  // The losses of the step are there: what was kept for other objectives can go.
  virtual void forget() {}

  // After the model has got its first values; after each update, whose state on CUDA (Optimizer::state) shows whether
  // it was made; after a step's batch has been used.
  virtual void started() {}
  virtual void updated(const StepState* /*update*/) {}
  virtual void finished(const Batch& /*batch*/) {}

  // Tensors that are to be saved and read back in place; then restored().
  virtual NamedTensors state() const { return {}; }
  virtual void restored() {}
  // Statistics since the last call, for the log; null where there are none.
  virtual nlohmann::ordered_json statistics() { return nullptr; }
};
using Objectives = std::vector<std::unique_ptr<Objective>>;

// What photos show, as a network sees it that no quality training touches; made where it is wanted, before the first
// update.
struct Semantics {
  int64_t width = 0;
  // (photos, width) F32 on the CPU, by the numbers in Batch::photos: rows of length 1, centred before.
  std::function<Tensor()> descriptors = {};
};

// What an objective is made from. The model's parameters are not allocated yet: one that has parameters of its own adds
// them under Scope(model.params).training_only().
struct ObjectiveContext {
  const Options& options;
  Model& model;
  const ModelInfo& info;  // what the model's pixels are like
  Device device = cpu_device;
  DType compute = DType::F32;
  int64_t batch = 0;  // rows of every batch
  uint64_t seed = 0;
  std::vector<int64_t> references = {};  // by the numbers in Batch::photos; negative or absent: unknown
  std::vector<float> scores = {};        // of all that Batch::photos numbers, 0-1
  Semantics semantics = {};
};

// A kind of objective: its flags, and how it is made: null where it is switched off. `made`: those before it.
struct ObjectiveKind {
  std::vector<OptionField> fields;
  std::unique_ptr<Objective> (*make)(const ObjectiveContext& context, const Objectives& made);
};

// The first of a type; null where there is none.
template <class T>
T* find(const Objectives& objectives) {
  for (const auto& one : objectives)
    if (auto* found = dynamic_cast<T*>(one.get())) return found;
  return nullptr;
}

// Those that are switched on, in the order of registry.cpp.
Objectives make_objectives(const ObjectiveContext& context);

}  // namespace qfm
