// L_cons (models/METHOD.md 4 and 5, our reconstruction): the score of an image must not follow the semantics of another
// image of equal score.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/objectives/matching_memory.h"
#include "train/objectives/objective.h"

namespace qfm {

// mean over the matched of  SmoothL1(f(P'), y) + w_feat (1 - cos(decoder(P'), decoder(P~))),
// P' = P~ + a |P~| / |N| N, N the tokens of the partner.
class Consistency : public Objective {
 public:
  explicit Consistency(const ObjectiveContext& context);
  std::string name() const override { return "match"; }
  // The first epoch only fills the memory.
  int64_t phase(uint32_t epoch) const override { return epoch > 0; }
  void plan(int64_t rows, int64_t labelled, int64_t phase) override;
  void prepare(const Batch& batch, uint32_t epoch, HostInputs& inputs) const override;
  Var operator()(const Step& step) override;
  void forget() override { noise_.reset(), factor_ = {}; }
  void finished(const Batch& batch) override;
  NamedTensors state() const override { return memory_.state(); }
  nlohmann::ordered_json statistics() override;

  // Until forget(), of the step that operator() saw last: the noise that it found (nullopt: none was searched for), and its factor (B).
  const std::optional<SemanticNoise>& noise() const { return noise_; }
  const Tensor& factor() const { return factor_; }

 private:
  MatchBatch keys_of(const Batch& batch) const;
  Tensor factor_of(const Step& step) const;

  const double w_feat_;
  const std::vector<int64_t> references_;
  MatchingMemory memory_;
  bool searching_ = false;
  std::optional<SemanticNoise> noise_;
  Tensor factor_;
};

}  // namespace qfm
