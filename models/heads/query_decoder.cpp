#include "models/heads/query_decoder.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "layers/pointwise.h"
#include "layers/reduce.h"
#include "layers/shape.h"
#include "models/within.h"

namespace qfm {

QueryDecoder::QueryDecoder(const Scope& scope, const QueryDecoderConfig& c, const FeatureShape& features)
    : QueryDecoder(scope, scope / "decoder", c, c.width_for(features), features.width) {}

QueryDecoder::QueryDecoder(const Scope& scope, const Scope& decoder, const QueryDecoderConfig& c, int64_t width,
                           int64_t features)
    : config(c),
      queries(scope.vector("queries", {1, c.queries, width}, trunc_normal(0.02))),
      norm1(decoder / "norm1", width, c.eps),
      norm2(decoder / "norm2", width, c.eps),
      norm3(decoder / "norm3", width, c.eps),
      self_in((decoder / "self_attn").weight("in_proj_weight", {3 * width, width}, xavier_uniform()),
              (decoder / "self_attn").vector("in_proj_bias", {3 * width}, constant(0))),
      self_out(decoder / "self_attn" / "out_proj", width, width, xavier_uniform()),
      cross_weight((decoder / "multihead_attn").weight("in_proj_weight", {3 * width, width}, xavier_uniform())),
      cross_bias((decoder / "multihead_attn").vector("in_proj_bias", {3 * width}, constant(0))),
      cross_q(cross_weight.rows(0, width), cross_bias.rows(0, width)),
      cross_kv(cross_weight.rows(width, 3 * width), cross_bias.rows(width, 3 * width)),
      cross_out(decoder / "multihead_attn" / "out_proj", width, width, xavier_uniform()),
      mlp(decoder / "linear1", decoder / "linear2", width, 4 * width, xavier_uniform()),
      head(scope / "head", width, 1, trunc_normal(0.02), false) {
  QFM_CHECK(width > 0 && width % c.heads == 0, "decoder: width ", width, " does not divide into ", c.heads, " heads");
  if (c.log_variance) log_variance.emplace(scope, *c.log_variance, width);
  if (width != features) input.emplace(decoder / "input", features, width, xavier_uniform());
}

QueryDecoder::Asked QueryDecoder::ask(const Features& features) const {
  const Var pooled = input ? (*input)(features.pooled) : features.pooled,
            tokens = input ? (*input)(features.tokens) : features.tokens;
  const Var t = queries + reshape(pooled, {pooled.dim(0), 1, pooled.dim(1)});
  return {self_out(self_attention(self_in(norm1(t)), config.heads), t), tokens};
}

Var QueryDecoder::attention(const Features& features) const {
  const auto [t, tokens] = ask(features);
  const int64_t b = tokens.dim(0), n = tokens.dim(1), q = config.queries, h = config.heads, d = t.dim(2) / h;
  const Var kv = cross_kv(tokens);
  const auto of_heads = [&](const Var& x, int64_t rows) { return permute(reshape(x, {b, rows, h, d}), {0, 2, 1, 3}); };
  const Var asks = reshape(of_heads(cross_q(norm2(t)), q), {b, h, q, 1, d}),
            keys = reshape(of_heads(slice(kv, 2, 0, h * d), n), {b, h, 1, n, d});
  return mean(softmax(sum(asks * keys, {-1}) / std::sqrt(static_cast<double>(d))), {1, 2});
}

Scores QueryDecoder::operator()(const Features& features) const {
  auto [t, tokens] = ask(features);
  t = cross_out(cross_attention(cross_q(norm2(t)), cross_kv(tokens), config.heads), t);
  t = mlp(norm3(t), t);
  const int64_t b = t.dim(0), q = config.queries;
  const Var members = head(t);  // (B, Q, 1)
  return {reshape(mean(members, {1}), {b}), reshape(members, {b, q}), t, log_variance ? (*log_variance)(t) : Var()};
}

int64_t QueryDecoderConfig::width_for(const FeatureShape& features) const {
  return width > 0 ? width : features.width - features.width % heads;
}

std::string QueryDecoderConfig::json() const {
  nlohmann::ordered_json j{{"type", "query_decoder"}, {"queries", queries}, {"heads", heads}, {"eps", eps}};
  if (width > 0) j["width"] = width;
  if (log_variance) j["log_variance"] = *log_variance;
  return j.dump();
}

QueryDecoderConfig query_decoder_from_json(const nlohmann::ordered_json& j) {
  QueryDecoderConfig c;
  c.width = j.value("width", int64_t{0}), c.queries = j.at("queries"), c.heads = j.at("heads"), c.eps = j.at("eps");
  c.log_variance = log_variance_from_json(j);
  check_within("decoder width", c.width, 0, 8192), check_within("queries", c.queries, 1, 1024);
  check_within("decoder heads", c.heads, 1, 8192);
  return c;
}

double QueryDecoderConfig::forward_flops(const FeatureShape& features) const {
  const auto d = static_cast<double>(width_for(features)), q = static_cast<double>(queries),
             n = static_cast<double>(features.tokens()), from = static_cast<double>(features.width);
  const double self = 8 * q * d * d + 4 * q * q * d, cross = 4 * q * d * d + 4 * n * d * d + 4 * q * n * d;
  const double projection = width_for(features) == features.width ? 0 : 2 * (n + 1) * from * d;
  return projection + self + cross + 16 * q * d * d + 2 * q * d;
}

std::shared_ptr<const HeadConfig> QueryDecoderConfig::with_variance(double deviation) const {
  auto more = std::make_shared<QueryDecoderConfig>(*this);
  more->log_variance = log_variance_of(deviation);
  return more;
}

std::unique_ptr<Head> QueryDecoderConfig::make(const Scope& scope, const FeatureShape& features) const {
  return std::make_unique<QueryDecoder>(scope, *this, features);
}

}  // namespace qfm
