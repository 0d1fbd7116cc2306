#include "models/heads/query_decoder.h"

#include "layers/tokens.h"

namespace qfm {

QueryDecoder::QueryDecoder(ParamSet& params, const QueryDecoderConfig& c)
    : config(c),
      queries(params.add("queries", {1, c.judges, c.width}, false)),
      norm1(params, "decoder.norm1", c.width, c.eps),
      norm2(params, "decoder.norm2", c.width, c.eps),
      norm3(params, "decoder.norm3", c.width, c.eps),
      self_in(params.add("decoder.self_attn.in_proj_weight", {3 * c.width, c.width}, true),
              params.add("decoder.self_attn.in_proj_bias", {3 * c.width}, false)),
      self_out(params, "decoder.self_attn.out_proj", c.width, c.width),
      cross_weight(params.add("decoder.multihead_attn.in_proj_weight", {3 * c.width, c.width}, true)),
      cross_bias(params.add("decoder.multihead_attn.in_proj_bias", {3 * c.width}, false)),
      cross_q(cross_weight.rows(0, c.width), cross_bias.rows(0, c.width)),
      cross_kv(cross_weight.rows(c.width, 3 * c.width), cross_bias.rows(c.width, 3 * c.width)),
      cross_out(params, "decoder.multihead_attn.out_proj", c.width, c.width),
      mlp(params, "decoder.linear1", "decoder.linear2", c.width, 4 * c.width),
      head(params, "head", c.width, 1, false) {
  QFM_CHECK(c.width % c.heads == 0, "decoder: width ", c.width, " does not divide into ", c.heads, " heads");
}

QueryDecoder::Output QueryDecoder::operator()(const Var& cls, const Var& patches) const {
  Var t = add_queries(queries, cls);
  t = self_out(self_attention(self_in(norm1(t)), config.heads), t);
  t = cross_out(cross_attention(cross_q(norm2(t)), cross_kv(patches), config.heads), t);
  t = mlp(norm3(t), t);
  const int64_t b = t.dim(0), j = config.judges;
  const Var judged = head(t);  // (B, J, 1)
  return {t, reshape(judged, {b, j}), reshape(mean_tokens(judged), {b})};
}

void QueryDecoder::init(uint64_t seed) {
  for (const LayerNorm* n : {&norm1, &norm2, &norm3}) n->init();
  for (const Linear* l : {&self_in, &self_out, &cross_out, &mlp.fc1, &mlp.fc2}) {
    fill_xavier_uniform(l->weight, seed);
    fill(l->bias, 0.0);
  }
  fill_xavier_uniform(cross_weight, seed), fill(cross_bias, 0.0);
  fill_truncated_normal(queries, seed, 0.02), fill_truncated_normal(head.weight, seed, 0.02);
}

void QueryDecoder::freeze() {
  for (Linear* l : {&self_in, &self_out, &cross_q, &cross_kv, &cross_out, &head}) l->freeze();
  mlp.freeze();
}

}  // namespace qfm
