// ResNet (He et al. 2016; bottlenecks as torchvision's v1.5, which halve in the 3 x 3 convolution). Names of torchvision
// and timm under the prefix "resnet.".
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/backbones/convnet.h"

namespace qfm {

struct ResNetConfig : BackboneConfig {
  int64_t image_height = 224, image_width = 224;
  int64_t stem = 64;                          // channels of the stem and of the first level's 3 x 3 convolutions
  std::array<int64_t, 4> depths{2, 2, 2, 2};  // blocks of each level
  bool bottleneck = false;                    // 1 x 1, 3 x 3, 1 x 1 with four times the channels; else two of 3 x 3
  int64_t channels(int64_t level) const { return (stem << level) * (bottleneck ? 4 : 1); }  // of its maps

  std::string json() const override;
  std::string prefix() const override { return "resnet."; }
  FeatureShape shape() const override;
  double forward_flops() const override;
  double backward_flops() const override;  // pixels get no gradient
  NameTest left_out() const override;      // fc.*, and counters of batches
  std::unique_ptr<Backbone> make(const Scope& scope) const override;
};
// Throws Error for sizes beyond any sense, nlohmann's exceptions for what is missing.
ResNetConfig resnet_from_json(const nlohmann::ordered_json& json);
// resnet18, resnet50; nullptr: another name.
std::unique_ptr<ResNetConfig> resnet_named(const std::string& arch, const std::string& convention = "");
// The name of the architecture whose weights a file of torchvision or timm holds, and its config; null: none of these.
std::shared_ptr<const BackboneConfig> resnet_in_file(const TensorFile& file, std::string& arch);

// What one block maps: channels and halving.
struct ResNetBlockShape {
  int64_t in, middle, out, stride;
};

// y = relu(F(x) + x), or relu(F(x) + downsample(x)) where x has another shape.
struct ResNetBlock {
  ResNetBlock(const Scope& scope, const ResNetBlockShape& shape, bool bottleneck);
  Var operator()(const Var& x) const;

  std::vector<ConvNorm> branch;
  std::optional<ConvNorm> downsample;
};

struct ResNet : Backbone {
  ResNet(const Scope& scope, const ResNetConfig& config);
  // stages: the maps (B, C, H, W) of the four levels.
  Features operator()(const Var& images) const override;

  ResNetConfig config;
  ConvNorm stem;
  std::array<std::vector<ResNetBlock>, 4> levels;
};

}  // namespace qfm
