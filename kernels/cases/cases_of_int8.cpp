// Cases of a transformer layer in 8 bits, for inference on the CPU.
#include "kernels/attention/attention_int8.h"
#include "kernels/cases/case_maker.h"
#include "kernels/gemm/gemm_int8.h"
#include "kernels/gemm/int8_weights.h"
#include "kernels/norm/layernorm.h"

namespace qfm {
namespace {

// Not random, and of both signs.
std::vector<float> waves(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i * i % 251 - 125) / 50;
  return x;
}

CaseArray quantised_in(const char* name, int64_t rows, int64_t cols) {
  const auto contents = [=](void* const*) {
    std::vector<char> bytes(static_cast<size_t>(rows * int8_row_bytes(cols)));
    quantise_tokens(Cpu{}, reinterpret_cast<uint8_t*>(bytes.data()), waves(rows * cols).data(), rows, cols);
    return bytes;
  };
  return {name, ArrayRole::In, DType::U8, rows * int8_row_bytes(cols), Equal::Bits, contents};
}
CaseArray quantised_out(const char* name, int64_t rows, int64_t cols) {
  return {name, ArrayRole::Out, DType::U8, rows * int8_row_bytes(cols)};
}
CaseArray packed_weight(int64_t n, int64_t k) {
  const size_t size = gemm_int8_packed_bytes(n, k);
  const auto contents = [=](void* const*) {
    std::vector<int8_t> q(static_cast<size_t>(n * k));
    std::vector<float> scale(static_cast<size_t>(n));
    quantise_rows(q.data(), scale.data(), waves(n * k).data(), n, k);
    std::vector<char> bytes(size);
    gemm_int8_pack(Cpu{}, bytes.data(), q.data(), scale.data(), n, k);
    return bytes;
  };
  return {"w", ArrayRole::In, DType::U8, static_cast<int64_t>(size), Equal::Bits, contents};
}

// One Linear (n, k) over all rows: with a residual to floats, with GELU to quantised rows.
void add_product(CaseMaker& make, const std::string& name, int64_t n, int64_t k, bool gelu, bool residual) {
  const int64_t m = make.s.batch * make.s.tokens;
  const double out = gelu ? static_cast<double>(m * int8_row_bytes(n)) : make.bytes((residual ? 2 : 1) * m * n);
  make.add({name + ".int8", {m, n, k}, k, GemmShape{m, n, k}.flops(), static_cast<double>(m * k + n * k) + out,
            "share of the peak of F32"},
           {gelu ? quantised_out("c", m, n) : make.out("c", m * n, Equal::Rounding), quantised_in("a", m, k),
            packed_weight(n, k), make.in("bias", n), make.in("residual", residual ? m * n : 0)},
           "gemm_int8", [=]<class T>(auto, T, auto c, auto a, auto w, auto bias, auto of) {
             GemmEpilogue<float> e{.bias = bias, .gelu = gelu};
             if (residual) e.residual = of;
             if (gelu) gemm_int8(Cpu{}, m, n, k, static_cast<uint8_t*>(c), a, static_cast<const uint8_t*>(w), e);
             else gemm_int8(Cpu{}, m, n, k, static_cast<float*>(c), a, static_cast<const uint8_t*>(w), e);
           });
}

}  // namespace

void add_int8_cases(CaseMaker& make) {
  make.group = "int8";
  const int64_t m = make.s.batch * make.s.tokens, d = make.s.width, t = make.s.tokens, heads = make.s.heads;
  const double rows = make.bytes(m * d) + static_cast<double>(m * int8_row_bytes(d));
  make.add({"quantise_tokens", {m, d}, 1, 0, rows}, {quantised_out("q", m, d), make.in("x", m * d)}, "quantise_tokens",
           [=](auto, auto, auto q, auto x) { quantise_tokens(Cpu{}, q, x, m, d); });
  make.add({"layernorm.int8", {m, d}, d, 0, rows},
           {quantised_out("q", m, d), make.in("x", m * d), make.in("w", d), make.in("b", d)},
           "layernorm_forward", [=](auto, auto, auto q, auto x, auto w, auto b) {
             layernorm_forward(Cpu{}, static_cast<uint8_t*>(q), x, w, b, m, d, 1e-6);
           });
  add_product(make, "qkv", 3 * d, d, false, false);
  add_product(make, "proj", d, d, false, true);
  add_product(make, "fc1", 4 * d, d, true, false);
  add_product(make, "fc2", d, 4 * d, false, true);
  const AttentionShape s{make.s.batch, heads, t, t, d / heads};
  make.add({"attention.int8", {s.batch, heads, t, s.head_dim}, 2 * (t + s.head_dim), s.forward_flops(),
            make.bytes(4 * m * d), "share of the peak of F32"},
           {make.out("y", m * d, Equal::Rounding), make.in("qkv", 3 * m * d)}, "attention_forward_int8",
           [=](auto, auto, auto y, auto qkv) {
             const float* x = qkv;
             attention_forward_int8(Cpu{}, s, {y, d}, {x, 3 * d}, {x + d, 3 * d}, {x + 2 * d, 3 * d});
           });
}

}  // namespace qfm
