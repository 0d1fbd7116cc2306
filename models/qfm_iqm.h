// The whole model: photo crops in, opinion scores out.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "models/backbones/vit.h"
#include "models/feature_selection.h"
#include "models/heads/query_decoder.h"

namespace qfm {

struct ModelConfig {
  std::string arch = "vit-tiny";
  VitConfig vit;
  QueryDecoderConfig panel;
  bool select = false;  // the channel gate of models/METHOD.md 2.1
};

// arch: vit-tiny (D 192, 3 heads), vit-small (384, 6), vit-base (768, 12). convention: "deit" (v1) or
// "deit3". Throws Error that lists the known names.
ModelConfig model_config(const std::string& arch, const std::string& convention = "deit");

class QfmIqm {
 public:
  struct Output {
    Var cls, patches;  // (B, D), (B, N, D): what the decoder saw (gated where `select` is on)
    Var gate;          // (B, D), empty value without `select`
    Var tokens;        // (B, judges, D)
    Var judges;        // (B, judges)
    Var score;         // (B), in the unit of the labels it was trained on
  };

  // training: gradients and their buffer exist. Parameters are not initialised: call init, or load a
  // checkpoint.
  QfmIqm(const ModelConfig& config, Device device, DType compute, bool training);
  QfmIqm(const QfmIqm&) = delete;
  QfmIqm& operator=(const QfmIqm&) = delete;

  // images (B, 3, H, W), normalised, in the compute dtype.
  Output operator()(const Var& images) const;
  void init(uint64_t seed);
  // Packs the weights for inference. They must not change afterwards; nothing may be recorded through a
  // frozen model.
  void freeze();

  const ModelConfig config;
  ParamSet params;  // before the modules that add to it
  Vit vit;
  std::optional<FeatureSelection> select;
  QueryDecoder decoder;
};

}  // namespace qfm
