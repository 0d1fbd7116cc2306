// Where semantic noise comes from: what the consistency loss asks of either reconstruction of matching
// (models/METHOD.md 4, `--method v1`; 9, `--method v2`).
#pragma once
#include <nlohmann/json.hpp>

#include "train/objectives/objective.h"

namespace qfm {

// What is added to the features of a batch, without history: P' = P + factor tokens, c' = c + factor pooled.
struct Perturbation {
  Tensor tokens;  // (B, N, D), compute type; empty: the patch tokens stay
  Tensor pooled;  // (B, D), compute type; empty: the class token stays
  Tensor factor;  // (B), accumulation type; adds nothing where nothing was found
  Tensor weight;  // (B), accumulation type: of each image in the loss, 0 where nothing was found
  Tensor share;   // (B), the same, with the sum 1
};

class NoiseSource {
 public:
  virtual ~NoiseSource() = default;
  virtual int64_t phase(uint32_t epoch) const { return epoch > 0; }  // of Objective; 0: no noise yet
  virtual void started() {}
  virtual void prepare(const Batch& batch, uint32_t epoch, HostInputs& inputs) const = 0;
  // Looks for noise for the features of a step, then keeps them. How many candidates there are for each image; 0 in
  // phase 0. Part of a captured graph.
  virtual int64_t find(const Step& step, int64_t phase) = 0;
  // Of what find() found: `which` (B), accumulation type, has the number of the candidate that each image takes.
  virtual Perturbation candidate(const Tensor& which) const = 0;
  // The same step again: which candidates were taken, and the scores under their noise (B), accumulation type; null in
  // phase 0.
  virtual void observe(const Step& /*step*/, const Tensor& /*which*/, const Tensor* /*moved*/) {}
  virtual void forget() {}  // what find() found
  virtual void finished(const Batch& batch) = 0;
  virtual NamedTensors state() const = 0;
  virtual nlohmann::ordered_json statistics() = 0;
};

// 1 where which[b] is k, else 0: (B).
Tensor is_candidate(const Tensor& which, int64_t k);

}  // namespace qfm
