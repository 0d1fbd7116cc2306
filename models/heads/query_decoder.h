// The quality decoder of DEIQT (models/METHOD.md 3): learned queries, one pre-norm transformer decoder layer,
// a linear head. Names and packing of torch.nn.TransformerDecoderLayer(norm_first=True).
#pragma once
#include <cstdint>
#include <string>

#include "layers/attention.h"
#include "layers/layernorm.h"
#include "layers/linear.h"
#include "layers/mlp.h"

namespace qfm {

struct QueryDecoderConfig {
  int64_t width = 192, judges = 6, heads = 6;
  double eps = 1e-5;
};

struct QueryDecoder {
  struct Output {
    Var tokens;  // (B, judges, D): what the judges see, before the head
    Var judges;  // (B, judges)
    Var score;   // (B): mean of the judges
  };

  QueryDecoder(ParamSet& params, const QueryDecoderConfig& config);
  // cls (B, D), patches (B, N, D):
  //   q = queries + cls; t = q + SelfAttention(norm1(q)); t = t + CrossAttention(norm2(t), patches);
  //   t = t + linear2(gelu(linear1(norm3(t)))); judge = head.weight . t
  Output operator()(const Var& cls, const Var& patches) const;
  void init(uint64_t seed);  // Xavier-uniform, biases 0, queries and head truncated normal 0.02
  void freeze();

  QueryDecoderConfig config;
  Param queries;
  LayerNorm norm1, norm2, norm3;
  Linear self_in, self_out;        // decoder.self_attn: packed q, k, v
  Param cross_weight, cross_bias;  // decoder.multihead_attn.in_proj_*, packed q, k, v
  Linear cross_q, cross_kv, cross_out;
  Mlp mlp;
  Linear head;
};

}  // namespace qfm
