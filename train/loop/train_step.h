// One update: forward, weighted sum of objectives, backward, clipping, AdamW.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/memory/graph.h"
#include "train/loop/batch_uploader.h"
#include "train/objectives/objective.h"
#include "train/optim/optimizer.h"

namespace qfm {

class TrainStep {
 public:
  // Keeps references to model and optimizer.
  TrainStep(Model& model, Optimizer& optimizer, Objectives objectives);

  // epoch from 0. Throws Error when the loss or the norm is not finite, OutOfMemory when memory ends: no parameter has
  // then changed; what objectives remember may have. On CUDA `meanwhile` is called while the GPU works: it may upload()
  // the next batch.
  //
  // On CUDA the first step of a kind (shape, number of labelled rows, phases of the objectives) runs by itself; later
  // ones replay a captured graph, with the same bits: forward passes, those of teachers too, losses, backward,
  // clipping, the updates and the averaging of the student. Beside it the host starts the batch's copies and the
  // kernel that makes images of its pixels.
  StepResult operator()(const Batch& batch, uint32_t epoch, double lr,
                        const std::function<void()>& meanwhile = {});
  // Starts the copies of what the next step will be called with. On the CPU there is nothing to do.
  void upload(const Batch& batch, uint32_t epoch);

  const Objectives& objectives() const { return objectives_; }
  // Statistics since the last call, by the objectives' names; those without are left out.
  nlohmann::ordered_json statistics();
  // Tensors that are to be saved, and read back in place; then restored().
  NamedTensors state() const;
  void restored();

 private:
  // Steps of one key compute the same terms over the same shapes.
  struct StepKey {
    Shape pixels;
    int64_t labelled = -1;
    std::vector<int64_t> phases = {};
    friend bool operator==(const StepKey&, const StepKey&) = default;
  };
  void ensure_plan(const StepKey& key);
  HostInputs inputs_of(const Batch& batch, uint32_t epoch) const;
  void forward_backward(const Tensor& images, const HostInputs& inputs);
  void compute_on_cuda();
  Var loss_of(const Tensor& images, const HostInputs& inputs);

  Model& model_;
  Optimizer& optimizer_;
  const Objectives objectives_;
  Tensor one_;   // (1): the gradient of the loss
  StepKey key_;  // the last step's
  // On CUDA only.
  std::unique_ptr<BatchUploader> uploader_;
  uint32_t uploaded_epoch_ = 0;
  bool planned_ = false;  // a step of this key has run by itself, so that libraries have made their plans
  Graph graph_;           // a captured step of this key
};

}  // namespace qfm
