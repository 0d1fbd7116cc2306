// Backbone: images in, features out. A new one is a file in backbones/ and a line in registry.cpp.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/tensor_file.h"
#include "engine/scope.h"

namespace qfm {

struct Features {
  Var pooled;               // (B, D): one vector an image
  Var tokens;               // (B, N, D): one a place of the grid, row by row
  std::vector<Var> stages;  // levels of a pyramid, finest first; empty where the backbone has none
};

// What a backbone takes and gives.
struct FeatureShape {
  int64_t image_height = 0, image_width = 0;  // pixels
  int64_t width = 0;                          // D
  int64_t rows = 0, cols = 0;                 // the grid of tokens
  int64_t tokens() const { return rows * cols; }
};

class Backbone {
 public:
  virtual ~Backbone() = default;
  // images (B, 3, H, W), normalised, in the compute dtype. Throws Error for another size.
  virtual Features operator()(const Var& images) const = 0;
  // Tensors of a checkpoint that do not fit as they are but can be resampled, by their names in the file, whose
  // names begin with `prefix`: the embeddings of another grid and of other patches. F32 on the CPU.
  virtual std::map<std::string, Tensor> resampled(const TensorFile& /*file*/, const std::string& /*prefix*/) const {
    return {};
  }
};

// Sizes of a transformer's layers, for benchmarks of its kernels.
struct TransformerSizes {
  int64_t image_height, image_width, patch, tokens, width, depth, heads;
};

// How pixels (RGB in 0..1) are brought to what a backbone was first trained on: (x - mean) / std.
struct PixelScale {
  std::array<double, 3> mean{0.485, 0.456, 0.406}, std{0.229, 0.224, 0.225};  // ImageNet's
};

using NameTest = bool (*)(const std::string& name);

// How a backbone is made; immutable once it is part of a ModelConfig.
struct BackboneConfig {
  virtual ~BackboneConfig() = default;
  virtual std::string json() const = 0;    // {"type": "vit", ...}, what registry.h reads back
  virtual std::string prefix() const = 0;  // its parameters' names in a checkpoint begin with it: "vit."
  virtual FeatureShape shape() const = 0;
  virtual double forward_flops() const = 0;  // FLOPs an image
  virtual double backward_flops() const { return 2 * forward_flops(); }
  virtual PixelScale pixel_scale() const { return {}; }
  // What files of others hold beside the backbone, by its names there: their classifier.
  virtual NameTest left_out() const = 0;
  virtual std::optional<TransformerSizes> transformer() const { return std::nullopt; }
  // The same for a grid of rows x cols patches of patch x patch pixels; null where there are none.
  virtual std::shared_ptr<const BackboneConfig> on_grid(int64_t /*patch*/, int64_t /*rows*/, int64_t /*cols*/) const {
    return nullptr;
  }
  // scope: the model's outermost. Throws Error for sizes that do not divide.
  virtual std::unique_ptr<Backbone> make(const Scope& scope) const = 0;
};

}  // namespace qfm
