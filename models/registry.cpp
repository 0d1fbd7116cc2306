#include "models/registry.h"

#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "models/backbones/efficientnet_lite.h"
#include "models/backbones/resnet.h"
#include "models/backbones/vit.h"
#include "models/heads/linear_head.h"
#include "models/heads/query_decoder.h"
#include "models/heads/siamese.h"

namespace qfm {
namespace {

using Json = nlohmann::ordered_json;

struct BackboneType {
  const char* type;
  std::function<std::shared_ptr<const BackboneConfig>(const Json&)> from_json;
  // What a file of others holds, known by names and shapes, and its architecture's name; null: none of these.
  std::shared_ptr<const BackboneConfig> (*in_file)(const TensorFile& file, std::string& arch);
};
struct Architecture {
  const char* name;
  std::function<std::shared_ptr<const BackboneConfig>(const std::string& name, const std::string& convention)> make;
};
struct HeadType {
  const char* type;
  std::function<std::shared_ptr<const HeadConfig>()> standard;
  std::function<std::shared_ptr<const HeadConfig>(const Json&)> from_json;
};

// ---- one line a kind ----

const std::vector<BackboneType> kBackbones = {
    {"vit", [](const Json& j) { return std::make_shared<const VitConfig>(vit_from_json(j)); }, vit_in_file},
    {"resnet", [](const Json& j) { return std::make_shared<const ResNetConfig>(resnet_from_json(j)); }, resnet_in_file},
    {"efficientnet_lite", [](const Json& j) { return std::make_shared<const EfficientNetLiteConfig>(efficientnet_lite_from_json(j)); }, efficientnet_lite_in_file},
};
const std::vector<Architecture> kArchitectures = {
    {"vit-tiny", vit_named},
    {"vit-small", vit_named},
    {"vit-base", vit_named},
    {"resnet18", resnet_named},
    {"resnet50", resnet_named},
    {"efficientnet-lite0", efficientnet_lite_named},
};
const std::vector<HeadType> kHeads = {
    {"query_decoder", [] { return std::make_shared<const QueryDecoderConfig>(); },
     [](const Json& j) { return std::make_shared<const QueryDecoderConfig>(query_decoder_from_json(j)); }},
    {"linear", [] { return std::make_shared<const LinearHeadConfig>(); },
     [](const Json& j) { return std::make_shared<const LinearHeadConfig>(linear_head_from_json(j)); }},
    {"siamese", [] { return std::make_shared<const SiameseConfig>(); },
     [](const Json&) { return std::make_shared<const SiameseConfig>(); }},
};

// ---- looking them up ----

template <class Kinds>
std::string listed(const Kinds& kinds, auto&& name) {
  std::string text;
  for (const auto& kind : kinds) text += (text.empty() ? "" : ", ") + std::string(name(kind));
  return text;
}

template <class Kinds>
auto from_json_text(const char* what, const Kinds& kinds, const std::string& text) {
  try {
    const Json j = Json::parse(text);
    const auto type = j.at("type").template get<std::string>();
    for (const auto& kind : kinds)
      if (type == kind.type) return kind.from_json(j);
    QFM_FAIL(what, " type '", type, "' is not known: ", listed(kinds, [](const auto& k) { return k.type; }));
  } catch (const nlohmann::json::exception& e) {
    QFM_FAIL(what, ": its description is damaged: ", e.what());
  }
}

}  // namespace

const std::vector<std::string>& architectures() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& a : kArchitectures) all.emplace_back(a.name);
    return all;
  }();
  return names;
}

const std::vector<std::string>& head_types() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& h : kHeads) all.emplace_back(h.type);
    return all;
  }();
  return names;
}

ModelConfig model_config(const std::string& arch, const std::string& convention, const std::string& head) {
  ModelConfig c;
  c.arch = arch;
  for (const auto& a : kArchitectures)
    if (arch == a.name) c.backbone = a.make(arch, convention);
  QFM_CHECK(c.backbone, "architecture '", arch, "' is not known: ", listed(kArchitectures, [](const auto& a) { return a.name; }));
  c.head = standard_head(head);
  return c;
}

std::shared_ptr<const HeadConfig> standard_head(const std::string& type) {
  for (const auto& h : kHeads)
    if (type == h.type) return h.standard();
  QFM_FAIL("head '", type, "' is not known: ", listed(kHeads, [](const auto& h) { return h.type; }));
}
std::string type_of(const HeadConfig& head) { return Json::parse(head.json()).at("type"); }

std::shared_ptr<const BackboneConfig> backbone_from_json(const std::string& json) {
  return from_json_text("backbone", kBackbones, json);
}
std::shared_ptr<const HeadConfig> head_from_json(const std::string& json) { return from_json_text("head", kHeads, json); }

std::optional<ModelConfig> find_timm_config(const TensorFile& file) {
  auto config = stored_config(file);
  if (!config) return config;
  if (const auto sizes = config->backbone->transformer()) {
    const int64_t side = 224 / sizes->patch;
    config->backbone = config->backbone->on_grid(sizes->patch, side, side);
  }
  return config;
}

std::optional<ModelConfig> stored_config(const TensorFile& file) {
  if (file.has("dist_token") || file.has("reg_token") || file.has("register_tokens")) return std::nullopt;
  for (const BackboneType& type : kBackbones) {
    ModelConfig c;
    c.backbone = type.in_file(file, c.arch), c.head = standard_head("query_decoder");
    if (c.backbone) return c;
  }
  return std::nullopt;
}

namespace {

// What a file of no architecture here seems to hold, by a name that is in it.
std::string likely_kind(const TensorFile& file) {
  static constexpr std::pair<const char*, const char*> kSigns[] = {
      {"dist_token", "DeiT with a distillation token"},
      {"reg_token", "a ViT with register tokens"},
      {"register_tokens", "a ViT with register tokens"},
      {"cls_token", "a ViT of another width"},
      {"stages.0.blocks.0.conv_dw.weight", "ConvNeXt"},
      {"layers.0.blocks.0.attn.qkv.weight", "Swin"},
      {"visual.conv1.weight", "CLIP"},
      {"vision_model.embeddings.class_embedding", "CLIP"},
      {"layer1.0.conv1.weight", "a ResNet of other sizes"},
      {"conv_stem.weight", "EfficientNet or MobileNet"},
      {"features.0.0.weight", "a network of torchvision's features.*"},
      {"features.0.weight", "VGG or AlexNet"},
      {"features.conv0.weight", "DenseNet"}};
  for (const auto& [name, kind] : kSigns)
    if (file.has(name)) return kind;
  return "tensors of an unknown kind";
}

}  // namespace

ModelConfig timm_config(const TensorFile& file) {
  const auto config = find_timm_config(file);
  QFM_CHECK(config, file.path(), ": ", likely_kind(file), ", no architecture here: ",
            listed(kArchitectures, [](const auto& a) { return a.name; }));
  return *config;
}

}  // namespace qfm
