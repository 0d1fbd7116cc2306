#include "kernels/attention/attention_cudnn.h"

#include <tuple>

#include "kernels/vendor/cudnn_graph.h"
#include "kernels/vendor/kernel_policy.h"
#include "kernels/vendor/vendor_case.h"

namespace qfm::cudnn {
namespace {

using Tensor = Graph::Tensor;

// The row lengths of all views of one call.
struct Strides {
  int64_t q, k, v, o, dq = 0, dk = 0, dv = 0, d_o = 0;
};

// A (batch, heads, tokens, head_dim) view of packed rows; transposed swaps the last two.
Dims strides_of(int64_t tokens, int64_t ld, int64_t head_dim) { return {tokens * ld, head_dim, ld, 1}; }
Dims transposed(Dims d) { return {d[0], d[1], d[3], d[2]}; }
Dims dense(const Dims& d) { return {d[1] * d[2] * d[3], d[2] * d[3], d[3], 1}; }

// o = softmax(scale q k^T) v, one operation of cuDNN's.
struct ForwardGraph {
  Graph graph;
  Tensor q, k, v, o, scale, stats = -1;

  ForwardGraph(const AttentionShape& s, const Strides& ld, bool with_lse) {
    const Dims queries{s.batch, s.heads, s.queries, s.head_dim}, keys{s.batch, s.heads, s.keys, s.head_dim};
    const Dims rows{s.batch, s.heads, s.queries, 1};
    q = graph.tensor(CUDNN_DATA_BFLOAT16, queries, strides_of(s.queries, ld.q, s.head_dim));
    k = graph.tensor(CUDNN_DATA_BFLOAT16, keys, strides_of(s.keys, ld.k, s.head_dim));
    v = graph.tensor(CUDNN_DATA_BFLOAT16, keys, strides_of(s.keys, ld.v, s.head_dim));
    o = graph.tensor(CUDNN_DATA_BFLOAT16, queries, strides_of(s.queries, ld.o, s.head_dim));
    scale = graph.scalar();
    if (with_lse) stats = graph.tensor(CUDNN_DATA_FLOAT, rows, dense(rows));
    graph.attention(o, stats, q, k, v, scale);
  }
};

// cuDNN knows attention backward as these 17 operations. With dS K written to dq at once it is deterministic:
// blocks then keep dS in the workspace. (Through an F32 sum of dq it would add in any order.)
//   D = sum(dO o)   P = exp(scale q k^T - lse)   dv = P^T dO   dS = scale P (dO v^T - D)   dk = dS^T q   dq =
//   dS k
struct BackwardGraph {
  Graph graph;
  Tensor q, kt, vt, o, d_o, lse, dq, dk, dv, row_sums, scale, one;

  BackwardGraph(const AttentionShape& s, const Strides& ld) {
    const Dims queries{s.batch, s.heads, s.queries, s.head_dim}, keys{s.batch, s.heads, s.keys, s.head_dim};
    const Dims rows{s.batch, s.heads, s.queries, 1}, scores{s.batch, s.heads, s.queries, s.keys};
    const Dims scores_t = transposed(scores), k_strides = strides_of(s.keys, ld.k, s.head_dim);
    const auto bf16_tensor = [&](const Dims& dims, int64_t row) {
      return graph.tensor(CUDNN_DATA_BFLOAT16, dims, strides_of(dims[2], row, s.head_dim));
    };
    const auto between = [&](const Dims& dims) { return graph.between(CUDNN_DATA_FLOAT, dims, dense(dims)); };
    const auto turned = [&](Tensor x) {  // scores by keys and queries: the operand of a product
      const Tensor y = graph.between(CUDNN_DATA_BFLOAT16, scores_t, transposed(dense(scores)));
      graph.reshape(y, x);
      return y;
    };
    q = bf16_tensor(queries, ld.q), o = bf16_tensor(queries, ld.o), d_o = bf16_tensor(queries, ld.d_o);
    dq = bf16_tensor(queries, ld.dq), dk = bf16_tensor(keys, ld.dk), dv = bf16_tensor(keys, ld.dv);
    kt = graph.tensor(CUDNN_DATA_BFLOAT16, transposed(keys), transposed(k_strides));
    vt =
        graph.tensor(CUDNN_DATA_BFLOAT16, transposed(keys), transposed(strides_of(s.keys, ld.v, s.head_dim)));
    lse = graph.tensor(CUDNN_DATA_FLOAT, rows, dense(rows));
    row_sums = graph.tensor(CUDNN_DATA_FLOAT, rows, dense(rows));
    scale = graph.scalar(), one = graph.scalar();

    const Tensor products = between(queries), sums = between(rows);
    graph.pointwise(CUDNN_POINTWISE_MUL, products, d_o, o);
    graph.sum(sums, products);
    graph.pointwise(CUDNN_POINTWISE_MUL, row_sums, sums,
                    one);  // the place of dropout's factor in the pattern

    const Tensor qk = between(scores), scaled = between(scores), shifted = between(scores),
                 p = between(scores);
    graph.matmul(qk, q, kt);
    graph.pointwise(CUDNN_POINTWISE_MUL, scaled, qk, scale);
    graph.pointwise(CUDNN_POINTWISE_SUB, shifted, scaled, lse);
    graph.pointwise(CUDNN_POINTWISE_EXP, p, shifted);
    graph.matmul(dv, turned(p), d_o);

    const Tensor dp = between(scores), centred = between(scores), weighted = between(scores),
                 ds = between(scores);
    graph.matmul(dp, d_o, vt);
    graph.pointwise(CUDNN_POINTWISE_SUB, centred, dp, row_sums);
    graph.pointwise(CUDNN_POINTWISE_MUL, weighted, centred, p);
    graph.pointwise(CUDNN_POINTWISE_MUL, ds, weighted, scale);
    graph.matmul(dk, turned(ds), q);

    const Tensor k = graph.between(CUDNN_DATA_BFLOAT16, keys, k_strides);
    graph.reshape(k, kt);
    graph.matmul(dq, ds, k);
  }
};

// Everything that decides which plan serves.
using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, std::array<int64_t, 8>, bool>;
Key key_of(const AttentionShape& s, const Strides& ld, bool with_lse) {
  return {s.batch, s.heads,    s.queries,
          s.keys,  s.head_dim, {ld.q, ld.k, ld.v, ld.o, ld.dq, ld.dk, ld.dv, ld.d_o},
          with_lse};
}

bool covers(const AttentionShape& s, const Strides& ld) {
  for (const int64_t row : {ld.q, ld.k, ld.v, ld.o, ld.dq, ld.dk, ld.dv, ld.d_o})
    if (row % 8 != 0) return false;
  return !s.mask.any() && s.batch > 0 && s.heads > 0 && s.queries > 0 && s.keys > 0 && s.head_dim > 0 &&
         s.head_dim <= 128 && s.head_dim % 8 == 0 && handle();
}

bool chosen(const char* direction, const AttentionShape& s) {
  return !s.mask.any() && choose([&] { return attention_key(direction, s); }, false) == Choice{true, 0};
}

bool served(const Plan& plan, Cuda cuda, const char* direction, const AttentionShape& s,
            std::span<const Plan::Argument> arguments) {
  return served_by_vendor([&] { return attention_key(direction, s); },
                          [&] {
                            plan.run(cuda, arguments);
                            return true;
                          });
}

Strides packed(const AttentionShape& s) {
  const int64_t d = s.heads * s.head_dim;
  if (s.queries == s.keys) return {3 * d, 3 * d, 3 * d, d, 3 * d, 3 * d, 3 * d, d};
  return {d, 2 * d, 2 * d, d, d, 2 * d, 2 * d, d};
}

GraphReport report(const Graph& graph, const char* what, const std::string& device_json) {
  const EngineConfigs suggestions(graph, device_from_json(device_json), what);
  return {graph.operations().size(), suggestions.size(), suggestions.deterministic()};
}

}  // namespace

bool attention_forward_by(Cuda cuda, const AttentionShape& s, Heads<bf16> o, float* lse, Heads<const bf16> q,
                          Heads<const bf16> k, Heads<const bf16> v) {
  const Strides ld{q.ld, k.ld, v.ld, o.ld};
  if (!aligned({o.data, lse, q.data, k.data, v.data}) || !covers(s, ld)) return false;
  const auto& [g, plan] = *cached_plan<ForwardGraph>(key_of(s, ld, lse), "attention forward",
                                                     [&] { return ForwardGraph(s, ld, lse != nullptr); });
  if (!plan) return false;
  const auto scale = static_cast<float>(s.scale());
  std::vector<Plan::Argument> arguments{
      {g.q, q.data}, {g.k, k.data}, {g.v, v.data}, {g.o, o.data}, {g.scale, &scale}};
  if (lse) arguments.push_back({g.stats, lse});
  return served(*plan, cuda, "attention_forward", s, arguments);
}

bool attention_backward_by(Cuda cuda, const AttentionShape& s, Heads<bf16> dq, Heads<bf16> dk, Heads<bf16> dv,
                           Heads<const bf16> d_o, Heads<const bf16> q, Heads<const bf16> k,
                           Heads<const bf16> v, Heads<const bf16> o, const float* lse) {
  const Strides ld{q.ld, k.ld, v.ld, o.ld, dq.ld, dk.ld, dv.ld, d_o.ld};
  if (!aligned({dq.data, dk.data, dv.data, d_o.data, q.data, k.data, v.data, o.data, lse}) || !covers(s, ld))
    return false;
  const auto& [g, plan] = *cached_plan<BackwardGraph>(key_of(s, ld, true), "attention backward",
                                                      [&] { return BackwardGraph(s, ld); });
  if (!plan) return false;
  const float scale = static_cast<float>(s.scale()), one = 1;
  const DeviceScratch row_sums(static_cast<size_t>(s.batch * s.heads * s.queries) * sizeof(float));
  const Plan::Argument arguments[] = {
      {g.q, q.data},     {g.kt, k.data},    {g.vt, v.data},  {g.o, o.data},
      {g.d_o, d_o.data}, {g.lse, lse},      {g.dq, dq.data}, {g.dk, dk.data},
      {g.dv, dv.data},   {g.scale, &scale}, {g.one, &one},   {g.row_sums, row_sums.as<float>()}};
  return served(*plan, cuda, "attention_backward", s, arguments);
}

bool attention_forward(Cuda cuda, const AttentionShape& s, Heads<bf16> o, float* lse, Heads<const bf16> q,
                       Heads<const bf16> k, Heads<const bf16> v) {
  return chosen("attention_forward", s) && attention_forward_by(cuda, s, o, lse, q, k, v);
}
bool attention_backward(Cuda cuda, const AttentionShape& s, Heads<bf16> dq, Heads<bf16> dk, Heads<bf16> dv,
                        Heads<const bf16> d_o, Heads<const bf16> q, Heads<const bf16> k, Heads<const bf16> v,
                        Heads<const bf16> o, const float* lse) {
  return chosen("attention_backward", s) && attention_backward_by(cuda, s, dq, dk, dv, d_o, q, k, v, o, lse);
}

GraphReport build_attention_forward(const AttentionShape& s, bool with_lse, const std::string& device_json) {
  return report(ForwardGraph(s, packed(s), with_lse).graph, "attention forward", device_json);
}
GraphReport build_attention_backward(const AttentionShape& s, const std::string& device_json) {
  return report(BackwardGraph(s, packed(s)).graph, "attention backward", device_json);
}

std::string attention_key(const char* direction, const AttentionShape& s) {
  return concat(direction, " BF16 ", s.batch, "x", s.heads, " ", s.queries, "x", s.keys, " d", s.head_dim);
}

}  // namespace qfm::cudnn
