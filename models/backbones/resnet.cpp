#include "models/backbones/resnet.h"

#include <nlohmann/json.hpp>

#include "layers/pool2d.h"
#include "models/within.h"

namespace qfm {
namespace {

ResNetBlockShape block_shape(const ResNetConfig& c, int64_t level, int64_t block) {
  const int64_t before = block > 0 ? c.channels(level) : level > 0 ? c.channels(level - 1) : c.stem;
  return {before, c.stem << level, c.channels(level), block == 0 && level > 0 ? 2 : 1};
}

bool needs_downsample(const ResNetBlockShape& s) { return s.stride != 1 || s.in != s.out; }

}  // namespace

ResNetBlock::ResNetBlock(const Scope& scope, const ResNetBlockShape& s, bool bottleneck) {
  const auto add = [&](const char* number, int64_t in, int64_t out, int64_t kernel, int64_t stride) {
    branch.emplace_back(scope / (std::string("conv") + number), scope / (std::string("bn") + number), in, out, kernel,
                        ConvOptions::square(stride, kernel / 2));
  };
  if (bottleneck) {
    add("1", s.in, s.middle, 1, 1), add("2", s.middle, s.middle, 3, s.stride), add("3", s.middle, s.out, 1, 1);
  } else {
    add("1", s.in, s.out, 3, s.stride), add("2", s.out, s.out, 3, 1);
  }
  if (needs_downsample(s))
    downsample.emplace(scope / "downsample" / 0, scope / "downsample" / 1, s.in, s.out, 1,
                       ConvOptions::square(s.stride, 0));
}

Var ResNetBlock::operator()(const Var& x) const {
  const Var shortcut = downsample ? (*downsample)(x, Activation::None) : x;
  Var y = x;
  for (size_t i = 0; i + 1 < branch.size(); ++i) y = branch[i](y, Activation::Relu);
  return branch.back()(y, Activation::Relu, shortcut);
}

ResNet::ResNet(const Scope& scope, const ResNetConfig& c)
    : config(c), stem(scope / "conv1", scope / "bn1", 3, c.stem, 7, ConvOptions::square(2, 3)) {
  for (int64_t level = 0; level < 4; ++level)
    for (int64_t i = 0; i < c.depths[static_cast<size_t>(level)]; ++i)
      levels[static_cast<size_t>(level)].emplace_back(scope / concat("layer", level + 1) / i, block_shape(c, level, i),
                                                      c.bottleneck);
}

Features ResNet::operator()(const Var& images) const {
  check_images("resnet", images, config.shape());
  const Window pool{3, 2, 1, 1};
  Var x = max_pool2d(stem(images, Activation::Relu), pool, pool);
  std::vector<Var> stages;
  for (const auto& level : levels) {
    for (const ResNetBlock& block : level) x = block(x);
    stages.push_back(x);
  }
  return features_of(x, std::move(stages));
}

std::string ResNetConfig::json() const {
  return nlohmann::ordered_json{{"type", "resnet"},           {"image_height", image_height},
                                {"image_width", image_width}, {"stem", stem},
                                {"depths", depths},           {"bottleneck", bottleneck}}
      .dump();
}

ResNetConfig resnet_from_json(const nlohmann::ordered_json& j) {
  ResNetConfig c;
  c.image_height = j.at("image_height"), c.image_width = j.at("image_width"), c.stem = j.at("stem");
  c.depths = j.at("depths"), c.bottleneck = j.at("bottleneck");
  check_within("image height", c.image_height, 1, 4096), check_within("image width", c.image_width, 1, 4096);
  check_within("stem", c.stem, 1, 1024);
  for (const int64_t depth : c.depths) check_within("depth of a level", depth, 1, 128);
  return c;
}

std::unique_ptr<ResNetConfig> resnet_named(const std::string& arch, const std::string&) {
  auto c = std::make_unique<ResNetConfig>();
  if (arch == "resnet50") c->depths = {3, 4, 6, 3}, c->bottleneck = true;
  else if (arch != "resnet18") return nullptr;
  return c;
}

std::shared_ptr<const BackboneConfig> resnet_in_file(const TensorFile& file, std::string& arch) {
  if (!file.has("conv1.weight") || !file.has("layer4.0.conv1.weight")) return nullptr;
  for (const char* name : {"resnet18", "resnet50"}) {
    const std::shared_ptr<const ResNetConfig> c = resnet_named(name);
    const auto block = [&](int64_t i) {
      return file.has(concat("layer3.", i, ".conv", c->bottleneck ? 3 : 2, ".weight"));
    };
    if (file.has("layer1.0.conv3.weight") == c->bottleneck && block(c->depths[2] - 1) && !block(c->depths[2]))
      return arch = name, c;
  }
  return nullptr;
}

NameTest ResNetConfig::left_out() const {
  return [](const std::string& name) { return name.starts_with("fc.") || name.ends_with(".num_batches_tracked"); };
}

FeatureShape ResNetConfig::shape() const {
  return {image_height, image_width, channels(3), ceil_div(image_height, 32), ceil_div(image_width, 32)};
}

namespace {

double stem_flops(const ResNetConfig& c) {
  return conv_flops(ceil_div(c.image_height, 2), ceil_div(c.image_width, 2), 3, c.stem, 7);
}

// rows x cols: places that the block gives.
double block_flops(const ResNetBlockShape& s, bool bottleneck, int64_t rows, int64_t cols, int64_t places_before) {
  const double shortcut = needs_downsample(s) ? conv_flops(rows, cols, s.in, s.out, 1) : 0;
  if (!bottleneck) return shortcut + conv_flops(rows, cols, s.in, s.out, 3) + conv_flops(rows, cols, s.out, s.out, 3);
  return shortcut + conv_flops(places_before, 1, s.in, s.middle, 1) + conv_flops(rows, cols, s.middle, s.middle, 3) +
         conv_flops(rows, cols, s.middle, s.out, 1);
}

}  // namespace

double ResNetConfig::forward_flops() const {
  double sum = stem_flops(*this);
  int64_t rows = ceil_div(image_height, 4), cols = ceil_div(image_width, 4);
  for (int64_t level = 0; level < 4; ++level)
    for (int64_t i = 0; i < depths[static_cast<size_t>(level)]; ++i) {
      const ResNetBlockShape s = block_shape(*this, level, i);
      const int64_t before = rows * cols;
      rows = ceil_div(rows, s.stride), cols = ceil_div(cols, s.stride);
      sum += block_flops(s, bottleneck, rows, cols, before);
    }
  return sum;
}
double ResNetConfig::backward_flops() const { return 2 * forward_flops() - stem_flops(*this); }

std::unique_ptr<Backbone> ResNetConfig::make(const Scope& scope) const {
  return std::make_unique<ResNet>(scope / "resnet", *this);
}

}  // namespace qfm
