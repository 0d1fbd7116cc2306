// AdamW over the flat buffers of a model (kernels/adamw.h), after clipping by the norm of the whole gradient.
#pragma once
#include <cstdint>

#include "engine/param.h"

namespace qfm {

struct OptimizerOptions {
  double weight_decay = 0.05;  // of the decayed part only
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double clip = 5.0;  // largest gradient norm; 0: no clipping
};

// Euclidean norm over all gradients, before clipping: summed in double, in a fixed order.
double gradient_norm(const ParamSet& params);

class Optimizer {
 public:
  // The parameters must be allocated for training and outlive this.
  explicit Optimizer(ParamSet& params, const OptimizerOptions& options = {});

  // One update with learning rate `lr` from the gradients in `params`, whose norm is `norm`:
  // every gradient times min(1, clip / (norm + 1e-6)). Allocates nothing, so it is done wholly or not at all.
  void step(double lr, double norm);

  int64_t steps = 0;  // updates done
  Tensor m, v;        // moments, laid out as params.master
  const OptimizerOptions options;

 private:
  void update(double lr, double weight_decay, double clip, int64_t begin, int64_t end);
  ParamSet& params_;
};

}  // namespace qfm
