// CLIP's text transformer (Radford et al. 2021): token ids in, one vector a text out. OpenAI's names.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/autograd.h"
#include "engine/scope.h"
#include "layers/layernorm.h"
#include "layers/linear.h"

namespace qfm {

struct TextConfig {
  int64_t vocabulary = 49408, context = 77;
  int64_t width = 512, depth = 12, heads = 8;
  int64_t out = 512;  // of the pooled vector, which images share
};

struct TextFeatures {
  Var pooled;  // (B, out): text_projection of the token at the end of the text
  Var tokens;  // (B, T, width), after the final LayerNorm
};

// x = x + out_proj(attention(in_proj(ln_1(x)))), causal; x = x + c_proj(quick_gelu(c_fc(ln_2(x)))).
struct TextBlock {
  TextBlock(const Scope& scope, const TextConfig& config);
  Var operator()(const Var& x) const;

  LayerNorm ln_1;
  Linear in_proj, out_proj;  // attn: packed query, key, value
  LayerNorm ln_2;
  Linear c_fc, c_proj;  // mlp
  int64_t heads;
};

struct TextTransformer {
  // Throws Error for heads that do not divide the width.
  TextTransformer(const Scope& scope, const TextConfig& config);
  // ids (B, T) I32 on the CPU, T <= context. The end of a text is its largest id, the first of equal ones. Throws Error
  // for ids that are not of the vocabulary.
  TextFeatures operator()(const Tensor& ids) const;

  TextConfig config;
  Param token_embedding, positional_embedding;
  std::vector<TextBlock> blocks;  // transformer.resblocks
  LayerNorm ln_final;
  Param text_projection;  // (width, out)
};

}  // namespace qfm
