// The quality decoder of DEIQT (models/METHOD.md 3): learned queries, one pre-norm transformer decoder layer, a
// linear read-out. Names and packing of torch.nn.TransformerDecoderLayer(norm_first=True).
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "layers/attention.h"
#include "layers/layernorm.h"
#include "layers/linear.h"
#include "layers/mlp.h"
#include "models/head.h"
#include "models/heads/log_variance.h"

namespace qfm {

struct QueryDecoderConfig : HeadConfig {
  int64_t width = 0;  // the decoder's; 0: that of the features, rounded down to what the heads divide
  int64_t queries = 6, heads = 6;
  double eps = 1e-5;
  std::optional<double> log_variance{};  // LogVariance::base; without: none is given
  int64_t width_for(const FeatureShape& features) const;

  std::string json() const override;
  int64_t members() const override { return queries; }
  double forward_flops(const FeatureShape& features) const override;
  bool gives_variance() const override { return log_variance.has_value(); }
  std::shared_ptr<const HeadConfig> with_variance(double deviation) const override;
  std::unique_ptr<Head> make(const Scope& scope, const FeatureShape& features) const override;
};
// Throws Error for sizes beyond any sense, nlohmann's exceptions for what is missing.
QueryDecoderConfig query_decoder_from_json(const nlohmann::ordered_json& json);

struct QueryDecoder : Head {
  QueryDecoder(const Scope& scope, const QueryDecoderConfig& config, const FeatureShape& features);
  // pooled (B, D), tokens (B, N, D), first projected (decoder.input) where D is not the decoder's width:
  //   q = queries + pooled; t = q + SelfAttention(norm1(q)); t = t + CrossAttention(norm2(t), tokens);
  //   t = t + linear2(gelu(linear1(norm3(t)))); member = head.weight . t; score = mean of the members
  Scores operator()(const Features& features) const override;
  // Mean over queries and heads of the cross-attention's shares.
  Var attention(const Features& features) const override;

  QueryDecoderConfig config;
  Param queries;
  LayerNorm norm1, norm2, norm3;
  Linear self_in, self_out;        // decoder.self_attn: packed q, k, v
  Param cross_weight, cross_bias;  // decoder.multihead_attn.in_proj_*, packed q, k, v
  Linear cross_q, cross_kv, cross_out;
  Mlp mlp;
  Linear head;
  std::optional<LogVariance> log_variance;
  std::optional<Linear> input;

 private:
  // After self-attention, and the tokens that it looks at: (B, Q, W), (B, N, W).
  struct Asked {
    Var queries, tokens;
  };
  Asked ask(const Features& features) const;
  QueryDecoder(const Scope& scope, const Scope& decoder, const QueryDecoderConfig& config, int64_t width,
               int64_t features);
};

}  // namespace qfm
