// A model: backbone, optional channel gate, head. Images in, opinion scores out.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "models/backbone.h"
#include "models/feature_selection.h"
#include "models/head.h"

namespace qfm {

// Made by registry.h. Copies share the parts, which never change.
struct ModelConfig {
  std::string arch;
  std::shared_ptr<const BackboneConfig> backbone;
  bool select = false;  // the channel gate of models/METHOD.md 2
  std::shared_ptr<const HeadConfig> head;
  FeatureShape features() const { return backbone->shape(); }
};

class Model {
 public:
  struct Output {
    Features features;  // what the head saw (gated where `select` is on)
    Var gate;           // (B, D), empty value without `select`
    Scores scores;
  };

  // Parameters exist once `params` has been allocated, and have values once it is initialised or loaded. Until
  // then more may be added to it, and parts of it be kept from training.
  explicit Model(const ModelConfig& config);
  // Allocated. training: gradients and their buffer exist.
  Model(const ModelConfig& config, Device device, DType compute, bool training) : Model(config) {
    params.allocate(device, compute, training);
  }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // images (B, 3, H, W), normalised, in the compute dtype.
  Output operator()(const Var& images) const;
  // Without the head: no scores.
  Output before_head(const Var& images) const;

  const ModelConfig config;
  ParamSet params;  // before the modules that add to it
  std::unique_ptr<Backbone> backbone;
  std::optional<FeatureSelection> select;
  std::unique_ptr<Head> head;
};

}  // namespace qfm
