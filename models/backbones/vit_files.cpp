// What a ViT is called and how it is described in files.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "models/backbones/vit.h"
#include "models/within.h"

namespace qfm {
std::string VitConfig::json() const {
  return nlohmann::ordered_json{{"type", "vit"},
                                {"image_height", image_height},
                                {"image_width", image_width},
                                {"patch", patch},
                                {"width", width},
                                {"depth", depth},
                                {"heads", heads},
                                {"layer_scale", layer_scale},
                                {"pos_embed_on_cls", pos_embed_on_cls},
                                {"eps", eps}}
      .dump();
}

VitConfig vit_from_json(const nlohmann::ordered_json& j) {
  VitConfig v;
  v.image_height = j.at("image_height"), v.image_width = j.at("image_width"), v.patch = j.at("patch");
  v.width = j.at("width"), v.depth = j.at("depth"), v.heads = j.at("heads"), v.eps = j.at("eps");
  v.layer_scale = j.at("layer_scale"), v.pos_embed_on_cls = j.at("pos_embed_on_cls");
  check_within("patch", v.patch, 1, 256), check_within("image height", v.image_height, v.patch, 4096);
  check_within("image width", v.image_width, v.patch, 4096), check_within("width", v.width, 1, 8192);
  check_within("depth", v.depth, 0, 128), check_within("heads", v.heads, 1, v.width);
  return v;
}

std::unique_ptr<VitConfig> vit_named(const std::string& arch, const std::string& convention) {
  auto v = std::make_unique<VitConfig>();
  if (arch == "vit-tiny") v->width = 192, v->heads = 3;
  else if (arch == "vit-small") v->width = 384, v->heads = 6;
  else if (arch == "vit-base") v->width = 768, v->heads = 12;
  else return nullptr;
  QFM_CHECK(convention == "deit" || convention == "deit3", "convention '", convention,
            "' is not known: deit or deit3");
  if (convention == "deit3") v->layer_scale = true, v->pos_embed_on_cls = false;
  return v;
}

std::shared_ptr<const BackboneConfig> VitConfig::on_grid(int64_t size, int64_t rows, int64_t cols) const {
  auto v = std::make_shared<VitConfig>(*this);
  v->patch = size, v->image_height = rows * size, v->image_width = cols * size;
  return v;
}

namespace {

// The smallest whole number whose square is at least n.
int64_t square_root(int64_t n) {
  return static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(std::max<int64_t>(n, 0)))));
}

// Of a position embedding for n tokens: whether the class token is one of them. Neither: n is no grid's.
bool covers_cls(int64_t n) { return square_root(n - 1) * square_root(n - 1) == n - 1; }

}  // namespace

std::shared_ptr<const BackboneConfig> vit_in_file(const TensorFile& file, std::string& arch) {
  const auto shape = [&](const char* name, int rank) -> const Shape* {
    return file.has(name) && file.entry(name).shape.rank() == rank ? &file.entry(name).shape : nullptr;
  };
  const Shape *cls = shape("cls_token", 3), *proj = shape("patch_embed.proj.weight", 4), *pos = shape("pos_embed", 3);
  if (!cls || !proj || !pos || (*proj)[2] < 1 || (*proj)[2] > 224) return nullptr;
  for (const char* name : {"vit-tiny", "vit-small", "vit-base"}) {
    auto v = vit_named(name, "deit");
    if (v->width != (*cls)[2]) continue;
    v->layer_scale = file.has("blocks.0.ls1.gamma"), v->pos_embed_on_cls = covers_cls((*pos)[1]);
    const int64_t side = std::max<int64_t>(1, square_root((*pos)[1] - (v->pos_embed_on_cls ? 1 : 0)));
    v->patch = (*proj)[2], v->image_height = v->image_width = side * v->patch;
    const auto origin = file.metadata().find(kOrigin);
    if (origin != file.metadata().end() && origin->second == kHuggingFaceVit) v->eps = 1e-12;
    arch = name;
    return v;
  }
  return nullptr;
}

FeatureShape VitConfig::shape() const {
  return {image_height, image_width, width, image_height / patch, image_width / patch};
}

std::optional<TransformerSizes> VitConfig::transformer() const {
  return TransformerSizes{image_height, image_width, patch, sequence(), width, depth, heads};
}

namespace {
double embed_flops(const VitConfig& v) {
  return 2 * static_cast<double>(v.patches() * 3 * v.patch * v.patch * v.width);
}
}  // namespace

double VitConfig::forward_flops() const {
  const auto d = static_cast<double>(width), t = static_cast<double>(sequence());
  const double block = 24 * t * d * d + 4 * t * t * d;  // qkv, proj, fc1, fc2; q k^T and p v
  return embed_flops(*this) + static_cast<double>(depth) * block;
}
double VitConfig::backward_flops() const { return 2 * forward_flops() - embed_flops(*this); }

std::unique_ptr<Backbone> VitConfig::make(const Scope& scope) const {
  return std::make_unique<Vit>(scope / "vit", *this);
}

}  // namespace qfm
