#include "models/backbones/efficientnet_lite.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "models/within.h"

namespace qfm {
namespace {

constexpr int64_t kStem = 32, kWidth = 1280;
constexpr double kEps = 1e-3, kMomentum = 0.01;

struct Stage {
  int64_t blocks, kernel, stride, expansion, channels;
  bool level;  // its map is one of Features::stages
};
constexpr Stage kStages[] = {{1, 3, 1, 1, 16, false}, {2, 3, 2, 6, 24, true},  {2, 5, 2, 6, 40, true},
                             {3, 3, 2, 6, 80, false}, {3, 5, 1, 6, 112, true}, {4, 5, 2, 6, 192, false},
                             {1, 3, 1, 6, 320, true}};

std::vector<LiteBlockShape> block_shapes(const EfficientNetLiteConfig& c) {
  std::vector<LiteBlockShape> shapes;
  int64_t rows = ceil_div(c.image_height, 2), cols = ceil_div(c.image_width, 2), in = kStem, stage = 0;
  for (const Stage& s : kStages) {
    for (int64_t i = 0; i < s.blocks; ++i) {
      const int64_t stride = i == 0 ? s.stride : 1;
      shapes.push_back({stage, i, rows, cols, in, in * s.expansion, s.channels, s.kernel, stride});
      rows = ceil_div(rows, stride), cols = ceil_div(cols, stride), in = s.channels;
    }
    ++stage;
  }
  return shapes;
}

// TensorFlow's SAME: a stride-th of the places, rounded up; what is odd of the padding comes after the axis.
Window same(int64_t in, int64_t kernel, int64_t stride) {
  const int64_t padding = std::max<int64_t>((ceil_div(in, stride) - 1) * stride + kernel - in, 0);
  return {kernel, stride, padding / 2, padding - padding / 2};
}
ConvOptions same(int64_t rows, int64_t cols, int64_t kernel, int64_t stride, int64_t groups = 1) {
  return {same(rows, kernel, stride), same(cols, kernel, stride), groups};
}

Scope scope_of(const Scope& scope, const LiteBlockShape& s) { return scope / "blocks" / s.stage / s.index; }

// timm counts the convolutions of a block: without expansion the depthwise one is the first.
ConvNorm pointwise_conv(const Scope& scope, const char* conv, const char* norm, int64_t in, int64_t out) {
  return {scope / conv, scope / norm, in, out, 1, ConvOptions::square(1, 0), kEps, kMomentum};
}

}  // namespace

LiteBlock::LiteBlock(const Scope& scope, const LiteBlockShape& s)
    : adds(s.adds()),
      expand(s.expands() ? std::optional(pointwise_conv(scope, "conv_pw", "bn1", s.in, s.middle)) : std::nullopt),
      depthwise(scope / "conv_dw", scope / (s.expands() ? "bn2" : "bn1"), s.middle, s.middle, s.kernel,
                same(s.rows, s.cols, s.kernel, s.stride, s.middle), kEps, kMomentum),
      project(
          pointwise_conv(scope, s.expands() ? "conv_pwl" : "conv_pw", s.expands() ? "bn3" : "bn2", s.middle, s.out)) {}

Var LiteBlock::operator()(const Var& x) const {
  const Var y = depthwise(expand ? (*expand)(x, Activation::Relu6) : x, Activation::Relu6);
  return project(y, Activation::None, adds ? x : Var());
}

EfficientNetLite::EfficientNetLite(const Scope& scope, const EfficientNetLiteConfig& c)
    : config(c),
      stem(scope / "conv_stem", scope / "bn1", 3, kStem, 3, same(c.image_height, c.image_width, 3, 2), kEps, kMomentum),
      head(pointwise_conv(scope, "conv_head", "bn2", kStages[std::size(kStages) - 1].channels, kWidth)) {
  for (const LiteBlockShape& s : block_shapes(c)) blocks.emplace_back(scope_of(scope, s), s);
}

Features EfficientNetLite::operator()(const Var& images) const {
  check_images("efficientnet-lite", images, config.shape());
  Var x = stem(images, Activation::Relu6);
  std::vector<Var> stages;
  size_t next = 0;
  for (const Stage& s : kStages) {
    for (int64_t i = 0; i < s.blocks; ++i) x = blocks[next++](x);
    if (s.level) stages.push_back(x);
  }
  return features_of(head(x, Activation::Relu6), std::move(stages));
}

std::string EfficientNetLiteConfig::json() const {
  return nlohmann::ordered_json{
      {"type", "efficientnet_lite"}, {"image_height", image_height}, {"image_width", image_width}}
      .dump();
}

EfficientNetLiteConfig efficientnet_lite_from_json(const nlohmann::ordered_json& j) {
  EfficientNetLiteConfig c;
  c.image_height = j.at("image_height"), c.image_width = j.at("image_width");
  check_within("image height", c.image_height, 1, 4096), check_within("image width", c.image_width, 1, 4096);
  return c;
}

std::unique_ptr<EfficientNetLiteConfig> efficientnet_lite_named(const std::string& arch, const std::string&) {
  return arch == "efficientnet-lite0" ? std::make_unique<EfficientNetLiteConfig>() : nullptr;
}

std::shared_ptr<const BackboneConfig> efficientnet_lite_in_file(const TensorFile& file, std::string& arch) {
  const auto shaped = [&](const char* name, const Shape& shape) {
    return file.has(name) && file.entry(name).shape == shape;
  };
  const bool lite0 = shaped("conv_head.weight", {kWidth, 320, 1, 1}) &&
                     shaped("blocks.5.3.conv_pwl.weight", {192, 1152, 1, 1}) &&
                     !file.has("blocks.5.4.conv_pwl.weight") && !file.has("blocks.1.0.se.conv_reduce.weight");
  if (!lite0) return nullptr;
  return efficientnet_lite_named(arch = "efficientnet-lite0");
}

PixelScale EfficientNetLiteConfig::pixel_scale() const {
  return {{127.0 / 255, 127.0 / 255, 127.0 / 255}, {128.0 / 255, 128.0 / 255, 128.0 / 255}};
}

NameTest EfficientNetLiteConfig::left_out() const {
  return
      [](const std::string& name) { return name.starts_with("classifier.") || name.ends_with(".num_batches_tracked"); };
}

FeatureShape EfficientNetLiteConfig::shape() const {
  return {image_height, image_width, kWidth, ceil_div(image_height, 32), ceil_div(image_width, 32)};
}

namespace {

double stem_flops(const EfficientNetLiteConfig& c) {
  return conv_flops(ceil_div(c.image_height, 2), ceil_div(c.image_width, 2), 3, kStem, 3);
}

}  // namespace

double EfficientNetLiteConfig::forward_flops() const {
  const FeatureShape features = shape();
  double sum =
      stem_flops(*this) + conv_flops(features.rows, features.cols, kStages[std::size(kStages) - 1].channels, kWidth, 1);
  for (const LiteBlockShape& s : block_shapes(*this)) {
    const int64_t rows = ceil_div(s.rows, s.stride), cols = ceil_div(s.cols, s.stride);
    if (s.expands()) sum += conv_flops(s.rows, s.cols, s.in, s.middle, 1);
    sum += conv_flops(rows, cols, s.middle, s.middle, s.kernel, s.middle) + conv_flops(rows, cols, s.middle, s.out, 1);
  }
  return sum;
}
double EfficientNetLiteConfig::backward_flops() const { return 2 * forward_flops() - stem_flops(*this); }

std::unique_ptr<Backbone> EfficientNetLiteConfig::make(const Scope& scope) const {
  return std::make_unique<EfficientNetLite>(scope / "efficientnet", *this);
}

}  // namespace qfm
