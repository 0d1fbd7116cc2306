// EfficientNet-Lite0 (Google 2020: the EfficientNet of Tan and Le 2019 without squeeze-and-excitation, with ReLU6):
// inverted bottlenecks, depthwise convolutions, padding as TensorFlow's SAME. timm's names of tf_efficientnet_lite0
// under the prefix "efficientnet.". Without its dropout and its dropping of blocks in training.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/backbones/convnet.h"

namespace qfm {

struct EfficientNetLiteConfig : BackboneConfig {
  int64_t image_height = 224, image_width = 224;

  std::string json() const override;
  std::string prefix() const override { return "efficientnet."; }
  FeatureShape shape() const override;
  double forward_flops() const override;
  double backward_flops() const override;   // pixels get no gradient
  PixelScale pixel_scale() const override;  // -1 to 1
  NameTest left_out() const override;       // classifier.*, and counters of batches
  std::unique_ptr<Backbone> make(const Scope& scope) const override;
};
// Throws Error for sizes beyond any sense, nlohmann's exceptions for what is missing.
EfficientNetLiteConfig efficientnet_lite_from_json(const nlohmann::ordered_json& json);
// efficientnet-lite0; nullptr: another name.
std::unique_ptr<EfficientNetLiteConfig> efficientnet_lite_named(const std::string& arch,
                                                                const std::string& convention = "");
// The name of the architecture whose weights a file of timm holds, and its config; null: not this one.
std::shared_ptr<const BackboneConfig> efficientnet_lite_in_file(const TensorFile& file, std::string& arch);

// What one block maps: rows x cols places of `in` channels to a stride-th of them, `out` channels.
struct LiteBlockShape {
  int64_t stage, index;  // blocks.STAGE.INDEX
  int64_t rows, cols, in, middle, out, kernel, stride;
  bool expands() const { return middle != in; }
  bool adds() const { return stride == 1 && in == out; }
};

// [1 x 1 to more channels, relu6,] depthwise kernel x kernel, relu6, 1 x 1 to `out` channels [+ x].
struct LiteBlock {
  LiteBlock(const Scope& scope, const LiteBlockShape& shape);
  Var operator()(const Var& x) const;

  bool adds;
  std::optional<ConvNorm> expand;
  ConvNorm depthwise, project;
};

struct EfficientNetLite : Backbone {
  EfficientNetLite(const Scope& scope, const EfficientNetLiteConfig& config);
  // stages: the maps (B, C, H, W) at a 4th, 8th, 16th and 32nd of the image's sides, before the last convolution.
  Features operator()(const Var& images) const override;

  EfficientNetLiteConfig config;
  ConvNorm stem;
  std::vector<LiteBlock> blocks;
  ConvNorm head;
};

}  // namespace qfm
