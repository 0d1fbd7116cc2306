#include "tools/onnx/onnx_model.h"

#include <cmath>
#include <vector>

#include "engine/base/io.h"
#include "models/backbones/efficientnet_lite.h"
#include "models/backbones/resnet.h"
#include "models/backbones/vit.h"
#include "models/checkpoint.h"
#include "models/heads/linear_head.h"
#include "models/heads/query_decoder.h"
#include "models/pretrained.h"
#include "models/weight_names.h"
#include "tools/onnx/onnx_graph.h"

namespace qfm {
namespace {

using Value = OnnxValue;
using Ints = OnnxGraph::Ints;

struct OnnxFeatures {
  Value pooled, tokens;  // (B, D), (B, N, D)
};

class OnnxModel : public OnnxGraph {
 public:
  Value add(const Value& a, const Value& b) { return node("Add", {a, b}); }
  Value multiply(const Value& a, const Value& b) { return node("Mul", {a, b}); }
  Value affine(const Value& x, double factor, double term) {
    return factor == 1 && term == 0 ? x : add(multiply(x, number(factor)), number(term));
  }
  Value reshape(const Value& x, const Ints& shape) { return node("Reshape", {x, ints(shape)}); }  // 0: as it is there
  Value permute(const Value& x, const Ints& order) { return node("Transpose", {x}, {{"perm", order}}); }
  Value pick(const Value& x, int64_t axis, int64_t i) { return node("Gather", {x, index(i)}, {{"axis", axis}}); }
  Value mean(const Value& x, const Ints& axes) {
    return node("ReduceMean", {x}, {{"axes", axes}, {"keepdims", int64_t{0}}});
  }

  Value linear(const Value& x, const Linear& l) {
    const Tensor w = l.weight.value();
    Tensor transposed({w.dim(1), w.dim(0)});
    for (int64_t r = 0; r < w.dim(0); ++r)
      for (int64_t c = 0; c < w.dim(1); ++c)
        transposed.data<float>()[c * w.dim(0) + r] = w.data<const float>()[r * w.dim(1) + c];
    const Value y = node("MatMul", {x, tensor(l.weight.name(), transposed)});
    return l.has_bias ? add(y, weight(l.bias)) : y;
  }
  Value gelu(const Value& x) {
    const Value erf = node("Erf", {multiply(x, number(1 / std::sqrt(2.0)))});
    return multiply(multiply(x, number(0.5)), add(erf, number(1)));
  }
  Value mlp(const Value& x, const Mlp& m) { return linear(gelu(linear(x, m.fc1)), m.fc2); }
  Value layernorm(const Value& x, const LayerNorm& n) {
    return node("LayerNormalization", {x, weight(n.weight), weight(n.bias)},
                {{"axis", int64_t{-1}}, {"epsilon", n.eps}});
  }
  // x (B, T, parts D) -> its parts as (B, heads, T, d).
  std::vector<Value> split_heads(const Value& x, int64_t tokens, int64_t parts, int64_t heads, int64_t width) {
    const Value all = permute(reshape(x, {0, tokens, parts, heads, width / heads}), {2, 0, 3, 1, 4});
    std::vector<Value> result;
    for (int64_t i = 0; i < parts; ++i) result.push_back(pick(all, 0, i));
    return result;
  }
  // (B, heads, T, d) each -> (B, T, D)
  Value attention(const Value& q, const Value& k, const Value& v, int64_t tokens, int64_t heads, int64_t width) {
    const double scale = 1 / std::sqrt(static_cast<double>(width) / static_cast<double>(heads));
    const Value products = node("MatMul", {multiply(q, number(scale)), permute(k, {0, 1, 3, 2})});
    const Value weights = node("Softmax", {products}, {{"axis", int64_t{-1}}});
    return reshape(permute(node("MatMul", {weights, v}), {0, 2, 1, 3}), {0, tokens, width});
  }
  Value activated(const Value& x, Activation activation) {
    switch (activation) {
      case Activation::None: return x;
      case Activation::Relu: return node("Relu", {x});
      case Activation::Relu6: return node("Clip", {x, number(0), number(6)});
      default: QFM_FAIL("an activation that the ONNX writer does not have");
    }
  }
  Value conv_norm(const Value& x, const ConvNorm& c, Activation activation, const Value& residual = {}) {
    const ConvOptions& o = c.conv.options;
    Value y = node("Conv", {x, weight(c.conv.weight)},
                   {{"strides", Ints{o.y.stride, o.x.stride}},
                    {"pads", Ints{o.y.pad_begin, o.x.pad_begin, o.y.pad_end, o.x.pad_end}},
                    {"dilations", Ints{o.y.dilation, o.x.dilation}},
                    {"group", o.groups}});
    const BatchNorm& n = c.norm;
    y = node("BatchNormalization",
             {y, weight(n.weight), weight(n.bias), tensor(n.running_mean.name(), n.running_mean.value()),
              tensor(n.running_var.name(), n.running_var.value())},
             {{"epsilon", n.eps}});
    return activated(residual.empty() ? y : add(y, residual), activation);
  }

  OnnxFeatures features(const Value& images, const Backbone& backbone);
  OnnxFeatures gated(const OnnxFeatures& f, const FeatureSelection& gate);
  Value members(const OnnxFeatures& f, const Head& head, const FeatureShape& shape);  // (B, M)

 private:
  OnnxFeatures vit(const Value& images, const Vit& v);
  OnnxFeatures resnet(Value x, const ResNet& r);
  OnnxFeatures efficientnet(Value x, const EfficientNetLite& e);
  OnnxFeatures of_map(const Value& map, int64_t width) {
    return {mean(map, {2, 3}), permute(reshape(map, {0, width, -1}), {0, 2, 1})};
  }
  Value decoder(const OnnxFeatures& f, const QueryDecoder& d, const FeatureShape& shape);
};

OnnxFeatures OnnxModel::vit(const Value& images, const Vit& v) {
  const VitConfig& c = v.config;
  const Ints patch{c.patch, c.patch};
  Value x = node("Conv", {images, weight(v.patch_embed.weight), weight(v.patch_embed.bias)}, {{"strides", patch}});
  x = permute(reshape(x, {0, c.width, -1}), {0, 2, 1});
  const Value batch = node("Shape", {images}, {{"start", int64_t{0}}, {"end", int64_t{1}}});
  const Value cls_shape = node("Concat", {batch, ints({1, c.width})}, {{"axis", int64_t{0}}});
  const Value cls = node("Expand", {weight(v.cls_token), cls_shape});
  if (!c.pos_embed_on_cls) x = add(x, weight(v.pos_embed));
  x = node("Concat", {cls, x}, {{"axis", int64_t{1}}});
  if (c.pos_embed_on_cls) x = add(x, weight(v.pos_embed));
  const auto scaled = [&](const Value& y, const LayerScale& s) { return s.gamma ? multiply(y, weight(*s.gamma)) : y; };
  for (const VitBlock& b : v.blocks) {
    const auto qkv = split_heads(linear(layernorm(x, b.norm1), b.qkv), c.sequence(), 3, b.heads, c.width);
    const Value a = attention(qkv[0], qkv[1], qkv[2], c.sequence(), b.heads, c.width);
    x = add(x, scaled(linear(a, b.proj), b.ls1));
    x = add(x, scaled(mlp(layernorm(x, b.norm2), b.mlp), b.ls2));
  }
  x = layernorm(x, v.norm);
  return {pick(x, 1, 0), node("Slice", {x, ints({1}), ints({c.sequence()}), ints({1})})};
}

OnnxFeatures OnnxModel::resnet(Value x, const ResNet& r) {
  x = conv_norm(x, r.stem, Activation::Relu);
  x = node("MaxPool", {x}, {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}});
  for (const auto& level : r.levels)
    for (const ResNetBlock& block : level) {
      const Value shortcut = block.downsample ? conv_norm(x, *block.downsample, Activation::None) : x;
      for (size_t i = 0; i < block.branch.size(); ++i)
        x = conv_norm(x, block.branch[i], Activation::Relu, i + 1 == block.branch.size() ? shortcut : Value());
    }
  return of_map(x, r.config.shape().width);
}

OnnxFeatures OnnxModel::efficientnet(Value x, const EfficientNetLite& e) {
  x = conv_norm(x, e.stem, Activation::Relu6);
  for (const LiteBlock& b : e.blocks) {
    Value y = b.expand ? conv_norm(x, *b.expand, Activation::Relu6) : x;
    y = conv_norm(y, b.depthwise, Activation::Relu6);
    x = conv_norm(y, b.project, Activation::None, b.adds ? x : Value());
  }
  return of_map(conv_norm(x, e.head, Activation::Relu6), e.config.shape().width);
}

OnnxFeatures OnnxModel::features(const Value& images, const Backbone& backbone) {
  if (const auto* v = dynamic_cast<const Vit*>(&backbone)) return vit(images, *v);
  if (const auto* r = dynamic_cast<const ResNet*>(&backbone)) return resnet(images, *r);
  if (const auto* e = dynamic_cast<const EfficientNetLite*>(&backbone)) return efficientnet(images, *e);
  QFM_FAIL("a backbone that the ONNX writer does not have");
}

OnnxFeatures OnnxModel::gated(const OnnxFeatures& f, const FeatureSelection& gate) {
  const Value hidden = gelu(linear(layernorm(mean(f.tokens, {1}), gate.norm), gate.fc1));
  const Value g = node("Sigmoid", {linear(hidden, gate.fc2)});
  return {multiply(f.pooled, g), multiply(f.tokens, node("Unsqueeze", {g, ints({1})}))};
}

Value OnnxModel::decoder(const OnnxFeatures& f, const QueryDecoder& d, const FeatureShape& shape) {
  const int64_t heads = d.config.heads, queries = d.config.queries, width = d.config.width_for(shape);
  const Value pooled = d.input ? linear(f.pooled, *d.input) : f.pooled,
              tokens = d.input ? linear(f.tokens, *d.input) : f.tokens;
  Value t = add(weight(d.queries), node("Unsqueeze", {pooled, ints({1})}));
  const auto self = split_heads(linear(layernorm(t, d.norm1), d.self_in), queries, 3, heads, width);
  t = add(t, linear(attention(self[0], self[1], self[2], queries, heads, width), d.self_out));
  const auto q = split_heads(linear(layernorm(t, d.norm2), d.cross_q), queries, 1, heads, width),
             kv = split_heads(linear(tokens, d.cross_kv), shape.tokens(), 2, heads, width);
  t = add(t, linear(attention(q[0], kv[0], kv[1], queries, heads, width), d.cross_out));
  t = add(t, mlp(layernorm(t, d.norm3), d.mlp));
  return reshape(linear(t, d.head), {0, queries});
}

Value OnnxModel::members(const OnnxFeatures& f, const Head& head, const FeatureShape& shape) {
  if (const auto* d = dynamic_cast<const QueryDecoder*>(&head)) return decoder(f, *d, shape);
  if (const auto* l = dynamic_cast<const LinearHead*>(&head))
    return affine(linear(f.pooled, l->head), l->config.scale, l->config.offset);
  QFM_FAIL("a head that the ONNX writer does not have");
}

// (pixels / 255 - mean) / std
Value normalised(OnnxModel& g, const Value& pixels, const ModelInfo& info) {
  Tensor factor({1, 3, 1, 1}), term({1, 3, 1, 1});
  for (size_t c = 0; c < 3; ++c) {
    factor.data<float>()[c] = static_cast<float>(1 / (255 * info.std[c]));
    term.data<float>()[c] = static_cast<float>(-info.mean[c] / info.std[c]);
  }
  return g.add(g.multiply(pixels, g.tensor("pixel_factor", factor)), g.tensor("pixel_term", term));
}

}  // namespace

void write_onnx(const std::string& from, const std::string& to) {
  const ModelInfo info = read_model_info(open_weights(from));
  QFM_CHECK(info.config.head->views() == 1, from, ": its head scores several views together, --to onnx writes one");
  Model model(info.config, cpu_device, DType::F32, false);
  load_pretrained(model, from);
  const FeatureShape shape = info.config.features();
  OnnxModel g;
  OnnxFeatures f = g.features(normalised(g, "pixels", info), *model.backbone);
  if (model.select) f = g.gated(f, *model.select);
  const double base = info.to_0_100(0), factor = info.to_0_100(1) - base;
  const Value on_scale = g.affine(g.members(f, *model.head, shape), factor, base);
  const OnnxGraph::Port pixels{"pixels", "RGB crops, 0 to 255", {3, shape.image_height, shape.image_width}},
      members{g.node("Identity", {on_scale}, {}, "members"), "the scores that the score is the mean of",
              {info.config.head->members()}},
      score{g.node("ReduceMean", {on_scale}, {{"axes", Ints{1}}, {"keepdims", int64_t{0}}}, "score"),
            "quality, 0 to 100, higher is better; of a photo: the mean over its crops", {}};
  write_file(to, g.file(pixels, {score, members}, "Image quality of crops: " + info.name,
                        checkpoint_metadata(info, false)));
}

}  // namespace qfm
