#include "models/text/text_transformer.h"

#include <algorithm>
#include <cmath>

#include "layers/attention.h"
#include "layers/pointwise.h"
#include "layers/shape.h"

namespace qfm {
namespace {

constexpr double kEps = 1e-5;

// As CLIP draws them: by width and depth.
Init of_width(double width) { return trunc_normal(1 / std::sqrt(width)); }
Init of_branch(const TextConfig& c) {
  return trunc_normal(1 / std::sqrt(2.0 * static_cast<double>(c.width * c.depth)));
}

// The rows of (B T, width) at which the texts end.
Tensor text_ends(const Tensor& ids) {
  const int64_t b = ids.dim(0), t = ids.dim(1);
  Tensor rows({b}, DType::I32);
  for (int64_t i = 0; i < b; ++i) {
    const auto text = ids.span<int32_t>().subspan(static_cast<size_t>(i * t), static_cast<size_t>(t));
    const auto end = std::max_element(text.begin(), text.end()) - text.begin();
    rows.span<int32_t>()[static_cast<size_t>(i)] = static_cast<int32_t>(i * t + end);
  }
  return rows;
}

}  // namespace

TextBlock::TextBlock(const Scope& scope, const TextConfig& c)
    : ln_1(scope / "ln_1", c.width, kEps),
      in_proj((scope / "attn").weight("in_proj_weight", {3 * c.width, c.width}, of_width(static_cast<double>(c.width))),
              (scope / "attn").vector("in_proj_bias", {3 * c.width}, constant(0))),
      out_proj(scope / "attn" / "out_proj", c.width, c.width, of_branch(c)),
      ln_2(scope / "ln_2", c.width, kEps),
      c_fc(scope / "mlp" / "c_fc", c.width, 4 * c.width, of_width(2 * static_cast<double>(c.width))),
      c_proj(scope / "mlp" / "c_proj", 4 * c.width, c.width, of_branch(c)),
      heads(c.heads) {}

Var TextBlock::operator()(const Var& x) const {
  const Var y = out_proj(self_attention(in_proj(ln_1(x)), heads, {.causal = true}), x);
  return c_proj(quick_gelu(c_fc(ln_2(y))), y);
}

TextTransformer::TextTransformer(const Scope& scope, const TextConfig& c)
    : config(c),
      token_embedding((scope / "token_embedding").vector("weight", {c.vocabulary, c.width}, trunc_normal(0.02))),
      positional_embedding(scope.vector("positional_embedding", {c.context, c.width}, trunc_normal(0.01))),
      ln_final(scope / "ln_final", c.width, kEps),
      text_projection(scope.weight("text_projection", {c.width, c.out}, of_width(static_cast<double>(c.width)))) {
  QFM_CHECK(c.width % c.heads == 0, "text transformer: width ", c.width, " does not divide into ", c.heads, " heads");
  for (int64_t i = 0; i < c.depth; ++i) blocks.emplace_back(scope / "transformer" / "resblocks" / i, c);
}

TextFeatures TextTransformer::operator()(const Tensor& ids) const {
  QFM_CHECK(ids.rank() == 2 && ids.dim(1) > 0 && ids.dim(1) <= config.context, "text transformer: ids are ",
            ids.shape(), ", expected (B, T) with at most ", config.context, " a text");
  const Device device = token_embedding.value().device();
  const int64_t b = ids.dim(0), t = ids.dim(1);
  Var x = embedding(token_embedding, ids.to(device)) + slice(positional_embedding, 0, 0, t);
  for (const TextBlock& block : blocks) x = block(x);
  const Var tokens = ln_final(x);
  const Var ends = embedding(reshape(tokens, {b * t, config.width}), text_ends(ids).to(device));
  return {linear(ends, permute(text_projection, {1, 0})), tokens};
}

}  // namespace qfm
