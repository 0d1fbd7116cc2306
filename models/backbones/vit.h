// The Vision Transformer backbone (Dosovitskiy et al. 2021) with the conventions of DeiT v1 and DeiT-III;
// timm's names under the prefix "vit.".
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "layers/attention.h"
#include "layers/layernorm.h"
#include "layers/layerscale.h"
#include "layers/linear.h"
#include "layers/mlp.h"
#include "layers/patch_embed.h"
#include "models/backbone.h"

namespace qfm {

struct VitConfig : BackboneConfig {
  int64_t image_height = 224, image_width = 224, patch = 16;
  int64_t width = 192, depth = 12, heads = 3;
  // DeiT-III: LayerScale on both branches, the position embedding covers the patch tokens only and is added
  // before CLS is put in front. DeiT v1: neither; the position embedding covers CLS too.
  bool layer_scale = false, pos_embed_on_cls = true;
  double layer_scale_init = 1e-4, eps = 1e-6;
  int64_t patches() const { return (image_height / patch) * (image_width / patch); }
  int64_t sequence() const { return patches() + 1; }

  std::string json() const override;
  std::string prefix() const override { return "vit."; }
  FeatureShape shape() const override;
  double forward_flops() const override;
  double backward_flops() const override;  // pixels get no gradient
  NameTest left_out() const override {
    return [](const std::string& name) { return name.starts_with("head."); };
  }
  std::optional<TransformerSizes> transformer() const override;
  std::shared_ptr<const BackboneConfig> on_grid(int64_t patch, int64_t rows, int64_t cols) const override;
  std::unique_ptr<Backbone> make(const Scope& scope) const override;
};
// From VitConfig::json(), or the "vit" of the metadata's first version. Throws Error for sizes beyond any sense,
// nlohmann's exceptions for what is missing.
VitConfig vit_from_json(const nlohmann::ordered_json& json);
// vit-tiny (D 192, 3 heads), vit-small (384, 6), vit-base (768, 12); nullptr: another name. convention: "deit"
// (v1) or "deit3"; throws Error otherwise.
std::unique_ptr<VitConfig> vit_named(const std::string& arch, const std::string& convention);
// The architecture whose weights a file holds under timm's names, known by width, and its config: the file's patches,
// grid and conventions; null: none of these.
std::shared_ptr<const BackboneConfig> vit_in_file(const TensorFile& file, std::string& arch);
// Metadata that says where a file's weights came from, and that it was a ViT of Hugging Face, whose epsilon is 1e-12.
inline constexpr const char *kOrigin = "origin", *kHuggingFaceVit = "Hugging Face ViT";

// x = x + ls1 attn(norm1(x)); x = x + ls2 mlp(norm2(x)). Tokens travel with the normalisation that reads them next.
struct VitBlock {
  VitBlock(const Scope& scope, const VitConfig& config);
  // x: tokens (B, T, D) and norm1 of them; next: what normalises the result.
  ResidualNorm operator()(ResidualNorm x, const LayerNorm& next) const;

  LayerNorm norm1;
  Linear qkv, proj;
  LayerScale ls1;
  LayerNorm norm2;
  Mlp mlp;
  LayerScale ls2;
  int64_t heads;
};

struct Vit : Backbone {
  // Throws Error for sizes that do not divide.
  Vit(const Scope& scope, const VitConfig& config);
  // pooled: the class token; tokens: the patches'; both after the final LayerNorm.
  Features operator()(const Var& images) const override;
  std::map<std::string, Tensor> resampled(const TensorFile& file, const std::string& prefix) const override;
  Var embed(const Var& images) const;   // tokens after CLS and position embedding, (B, T, D)
  Var tokens(const Var& images) const;  // (B, T, D) after the final LayerNorm
  // What normalises the tokens before block i, or after the last one.
  const LayerNorm& norm_before(size_t i) const { return i < blocks.size() ? blocks[i].norm1 : norm; }

  VitConfig config;
  PatchEmbed patch_embed;
  Param cls_token, pos_embed;
  std::vector<VitBlock> blocks;
  LayerNorm norm;
};

// (1, [1 +] gh*gw, D) -> the same for a grid of `rows` x `cols`: antialiased bicubic (a = -0.5), as timm's
// resample_abs_pos_embed does; a CLS row stays. F32 on the CPU. Throws Error when the old grid is not square.
Tensor interpolate_pos_embed(const Tensor& pos, int64_t rows, int64_t cols, bool has_cls);

// (D, 3, p, p) -> (D, 3, patch, patch): such that the products with patches that are enlarged (or, as near as can be,
// reduced) by that interpolation stay as they were (Beyer et al. 2023, FlexiViT), as timm's resample_patch_embed does.
// F32 on the CPU.
Tensor resample_patch_embed(const Tensor& weight, int64_t patch);

}  // namespace qfm
