// L_cons (models/METHOD.md 5.2 and 9.4, our reconstruction): the score of an image must not follow the semantics of
// another image of equal score.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "train/objectives/noise_source.h"

namespace qfm {

// Under noise (P', c') of the source that --method names:
//   v1  mean over the matched of  SmoothL1(f(P'), y) + w_feat (1 - cos(decoder(P'), decoder(P~)))
//   v2  sum over the matched / B of  SmoothL1(f(P', c'), sg f(P~, c~))        --cons-target label: y
// Of several candidates each image takes the one that moves its score most.
class Consistency : public Objective {
 public:
  explicit Consistency(const ObjectiveContext& context);
  std::string name() const override { return "match"; }
  int64_t phase(uint32_t epoch) const override { return source_->phase(epoch); }
  void plan(int64_t, int64_t, int64_t phase) override { phase_ = phase; }
  void prepare(const Batch& batch, uint32_t epoch, HostInputs& inputs) const override {
    source_->prepare(batch, epoch, inputs);
  }
  Var operator()(const Step& step) override;
  void forget() override { noise_.reset(), source_->forget(); }
  void started() override { source_->started(); }
  void finished(const Batch& batch) override { source_->finished(batch); }
  NamedTensors state() const override { return source_->state(); }
  nlohmann::ordered_json statistics() override { return source_->statistics(); }

  // Until forget(), of the step that operator() saw last; nullopt: there was no noise.
  const std::optional<Perturbation>& noise() const { return noise_; }

 private:
  Tensor worst_of(const Step& step, int64_t candidates) const;

  const double w_feat_;
  const bool to_label_;
  const std::unique_ptr<NoiseSource> source_;
  int64_t phase_ = 0;
  std::optional<Perturbation> noise_;
};

// Flags of the method that --method does not have, or has under other conditions. Throws Error.
void check_method(const Options& options);

}  // namespace qfm
