#include "kernels/gemm/gemm_layout.h"

#include "engine/base/error.h"

namespace qfm {
namespace {

// A dense row-major (rows, cols) matrix as columns see it.
GemmLayout::Matrix stored(DType type, int64_t rows, int64_t cols) { return {type, cols, rows, cols}; }

}  // namespace

std::optional<GemmPlan> gemm_plan(const GemmShape& s, DType type, DType out, const GemmFusion& f) {
  const bool after = f.gelu || f.times_gelu_grad, of_out_type = f.bias || f.residual || after;
  if (s.m <= 0 || s.n <= 0 || s.k <= 0 || (f.gelu && f.times_gelu_grad) || (f.residual && after) ||
      (f.pre_gelu && !f.gelu) || (of_out_type && type != out) ||
      (f.sum_a && (f.bias || !s.trans_a || out != DType::F32)))
    return std::nullopt;
  GemmPlan plan;
  GemmLayout& l = plan.layout;
  l.a = s.trans_b ? stored(type, s.n, s.k) : stored(type, s.k, s.n);
  l.b = s.trans_a ? stored(type, s.k, s.m) : stored(type, s.m, s.k);
  l.d = stored(out, s.m, s.n);
  l.trans_a = s.trans_b, l.trans_b = s.trans_a;
  l.beta = f.residual ? 1.0f : 0.0f;
  l.epilogue = f.bias    ? GemmLayout::Epilogue::Bias
               : f.sum_a ? GemmLayout::Epilogue::BiasGradB
                         : GemmLayout::Epilogue::None;
  l.vector_size = f.bias ? l.d.rows : f.sum_a ? l.d.cols : 0;
  plan.into_pre_gelu = f.pre_gelu;
  plan.after = f.gelu              ? GemmPlan::After::Gelu
               : f.times_gelu_grad ? GemmPlan::After::GeluGrad
                                   : GemmPlan::After::Nothing;
  return plan;
}

std::string gemm_key(const GemmShape& s, DType type, DType out, const GemmFusion& f) {
  std::string key = concat("gemm ", name_of(type), out == type ? "" : concat(">", name_of(out)), " ", s.m,
                           "x", s.n, "x", s.k, s.trans_a ? " T" : " N", s.trans_b ? "T" : "N");
  const auto add = [&](bool is, const char* name) { key += is ? std::string(" ") + name : ""; };
  add(f.bias, "bias"), add(f.pre_gelu, "pre_gelu"), add(f.gelu, "gelu"), add(f.times_gelu_grad, "gelu_grad");
  add(f.residual, "residual"), add(f.sum_a, "sum_a");
  return key;
}

}  // namespace qfm
