// The Vision Transformer backbone (Dosovitskiy et al. 2021) with the conventions of DeiT v1 and DeiT-III;
// timm's names.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "layers/attention.h"
#include "layers/layernorm.h"
#include "layers/layerscale.h"
#include "layers/linear.h"
#include "layers/mlp.h"
#include "layers/patch_embed.h"

namespace qfm {

struct VitConfig {
  int64_t image_height = 224, image_width = 224, patch = 16;
  int64_t width = 192, depth = 12, heads = 3;
  // DeiT-III: LayerScale on both branches, the position embedding covers the patch tokens only and is added
  // before CLS is put in front. DeiT v1: neither; the position embedding covers CLS too.
  bool layer_scale = false, pos_embed_on_cls = true;
  double layer_scale_init = 1e-4, eps = 1e-6;
  int64_t patches() const { return (image_height / patch) * (image_width / patch); }
  int64_t tokens() const { return patches() + 1; }
};

// x = x + ls1 attn(norm1(x)); x = x + ls2 mlp(norm2(x)). Tokens travel with the normalisation that reads them
// next.
struct VitBlock {
  VitBlock(ParamSet& params, const std::string& prefix, const VitConfig& config);
  // x: tokens (B, T, D) and norm1 of them; next: what normalises the result.
  ResidualNorm operator()(ResidualNorm x, const LayerNorm& next) const;
  void init(uint64_t seed, const VitConfig& config);
  void freeze();

  LayerNorm norm1;
  Linear qkv, proj;
  LayerScale ls1;
  LayerNorm norm2;
  Mlp mlp;
  LayerScale ls2;
  int64_t heads;
};

struct Vit {
  struct Features {
    Var cls;      // (B, D)
    Var patches;  // (B, N, D); both after the final LayerNorm
  };

  // Parameter names are `prefix` + timm's. Throws Error for sizes that do not divide.
  Vit(ParamSet& params, const std::string& prefix, const VitConfig& config);
  // images (B, 3, H, W), normalised.
  Features operator()(const Var& images) const;
  Var embed(const Var& images) const;   // tokens after CLS and position embedding, (B, T, D)
  Var tokens(const Var& images) const;  // (B, T, D) after the final LayerNorm
  // What normalises the tokens before block i, or after the last one.
  const LayerNorm& norm_before(size_t i) const { return i < blocks.size() ? blocks[i].norm1 : norm; }
  void init(uint64_t seed);  // timm's: truncated normal 0.02, biases 0, LayerNorm 1 and 0
  void freeze();

  VitConfig config;
  PatchEmbed patch_embed;
  Param cls_token, pos_embed;
  std::vector<VitBlock> blocks;
  LayerNorm norm;
};

}  // namespace qfm
