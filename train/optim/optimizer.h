// AdamW over the flat buffers of a model (kernels/optim/adamw.h), after clipping by the norm of the whole gradient.
#pragma once
#include <cstdint>
#include <memory>

#include "engine/memory/memory.h"
#include "engine/param.h"
#include "kernels/optim/adamw.h"

namespace qfm {

struct StepResult {
  double loss;       // before the update
  double grad_norm;  // Euclidean norm over all gradients, before clipping
};

// Euclidean norm over all gradients of a model on the CPU: summed in double, in a fixed order.
double gradient_norm(const ParamSet& params);

class Optimizer {
 public:
  // The parameters must be allocated for training and outlive this.
  explicit Optimizer(ParamSet& params, const AdamWRule& rule = {});

  // One update from the gradients in `params`, which are those of `loss` (1), in three parts:
  void set_rate(double lr);  // first
  // On CUDA it waits for nothing, so that it can be part of a captured graph.
  void update(const Tensor& loss);
  StepResult finish();  // waits
  // Throws Error when loss or norm is not finite (on the CPU update() does); no parameter has then changed.
  // An update is done wholly or not at all.
  StepResult step(double lr, const Tensor& loss) {
    set_rate(lr), update(loss);
    return finish();
  }

  int64_t steps = 0;  // updates done
  Tensor m, v;        // moments, laid out as params.gradient
  // State of the last update, in device memory; null on the CPU.
  const StepState* state() const;
  const AdamWRule rule;

 private:
  void update_cpu(const Tensor& loss);
  void update_cuda(const Tensor& loss);

  ParamSet& params_;
  double lr_ = 0;
  StepResult result_{};
  Tensor state_;                          // on CUDA: StepState in device memory
  std::unique_ptr<PinnedBuffer> mirror_;  // and a copy of it where the host reads and writes
};

}  // namespace qfm
