// kernels/gemm/gemm_layout.h: what it tells cuBLASLt to do, done by a plain interpreter of such descriptors,
// gives what the row-major product gives.
#include "kernels/gemm/gemm_layout.h"

#include "kernels/pointwise/map.h"
#include "tests/kernels/gemm_problem.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

using Matrix = GemmLayout::Matrix;

// Element (i, j) of a column-major matrix that lies in `memory`.
template <class Memory>
auto& at(Memory& memory, const Matrix& m, int64_t i, int64_t j) {
  REQUIRE((i >= 0 && i < m.rows && j >= 0 && j < m.cols && m.rows <= m.ld));
  return memory.at(static_cast<size_t>(i + j * m.ld));
}

// D = epilogue(op(A) op(B) + beta C), as cuBLASLt's documentation has it.
void interpret(const GemmLayout& l, const Doubles& a, const Doubles& b, const Doubles& c, Doubles& d,
               Doubles& vector) {
  const auto op_a = [&](int64_t i, int64_t p) { return l.trans_a ? at(a, l.a, p, i) : at(a, l.a, i, p); };
  const auto op_b = [&](int64_t p, int64_t j) { return l.trans_b ? at(b, l.b, j, p) : at(b, l.b, p, j); };
  const int64_t k = l.trans_a ? l.a.rows : l.a.cols;
  REQUIRE((l.trans_b ? l.b.cols : l.b.rows) == k);
  for (int64_t j = 0; j < l.d.cols; ++j) {
    for (int64_t i = 0; i < l.d.rows; ++i) {
      double sum = 0;
      for (int64_t p = 0; p < k; ++p) sum += op_a(i, p) * op_b(p, j);
      if (l.beta != 0) sum += static_cast<double>(l.beta) * at(c, l.d, i, j);
      if (l.epilogue == GemmLayout::Epilogue::Bias) sum += vector.at(static_cast<size_t>(i));
      at(d, l.d, i, j) = sum;
    }
    if (l.epilogue == GemmLayout::Epilogue::BiasGradB) {
      double& sum = vector.at(static_cast<size_t>(j)) = 0;
      for (int64_t p = 0; p < k; ++p) sum += op_b(p, j);
    }
  }
}

GemmFusion fusion(int parts) {
  return {(parts & Bias) != 0,     (parts & PreGelu) != 0,  (parts & Gelu) != 0,
          (parts & GeluGrad) != 0, (parts & Residual) != 0, (parts & SumA) != 0};
}

struct Outputs {
  Doubles c, pre_gelu, sum_a;
};

Outputs by_plan(const Problem<double>& p, const GemmPlan& plan) {
  const auto size = static_cast<size_t>(p.s.m * p.s.n);
  Outputs r{unwritten<double>(p.s.m * p.s.n), {}, {}};
  if (p.parts & PreGelu) r.pre_gelu = r.c;
  Doubles vector = p.parts & Bias ? p.bias : unwritten<double>(plan.layout.vector_size);
  CHECK(static_cast<int64_t>(vector.size()) == plan.layout.vector_size * (vector.empty() ? 0 : 1));
  interpret(plan.layout, p.b, p.a, p.residual, plan.into_pre_gelu ? r.pre_gelu : r.c, vector);
  if (p.parts & SumA) r.sum_a = vector;
  if (plan.after == GemmPlan::After::Gelu)
    map(cpu, fn::Gelu{}, flat_space<1>(static_cast<int64_t>(size)), r.c.data(),
        MapInputs<double, 1>{{plan.into_pre_gelu ? r.pre_gelu.data() : r.c.data()}});
  if (plan.after == GemmPlan::After::GeluGrad)
    map(cpu, fn::Derivative<fn::Gelu>{}, flat_space<2>(static_cast<int64_t>(size)), r.c.data(),
        MapInputs<double, 2>{{r.c.data(), p.of.data()}});
  return r;
}

Outputs by_gemm(const Problem<double>& p) {
  Outputs r{unwritten<double>(p.s.m * p.s.n), {}, {}};
  if (p.parts & PreGelu) r.pre_gelu = r.c;
  if (p.parts & SumA) r.sum_a = unwritten<double>(p.s.m);
  GemmEpilogue<double> e = p.epilogue(r.pre_gelu.data());
  e.sum_a = p.parts & SumA ? r.sum_a.data() : nullptr;
  gemm(cpu, p.s, r.c.data(), p.a.data(), p.b.data(), e);
  return r;
}

// The types are labels here: the numbers are double.
void check_plan(GemmShape s, int parts, DType out = DType::F32) {
  CAPTURE(gemm_key(s, DType::F32, out, fusion(parts)));
  const auto plan = gemm_plan(s, DType::F32, out, fusion(parts));
  REQUIRE(plan);
  const Problem<double> p(s, parts);
  const Outputs found = by_plan(p, *plan), expected = by_gemm(p);
  CHECK(within<double>(found.c, expected.c, s.k));
  CHECK(within<double>(found.pre_gelu, expected.pre_gelu, s.k));
  CHECK(within<double>(found.sum_a, expected.sum_a, s.k));
}

TEST_CASE("cuBLASLt's descriptors of a product: every layout and size") {
  const int64_t sizes[][3] = {{1, 1, 1}, {7, 13, 5}, {1, 197, 3}, {197, 1, 2}, {8, 24, 16}};
  for (const auto& [m, n, k] : sizes)
    for (const bool trans_a : {false, true})
      for (const bool trans_b : {false, true})
        for (const int parts : {0, int{Bias}, int{Residual}, Bias | Residual})
          check_plan({m, n, k, trans_a, trans_b}, parts);
}

TEST_CASE("cuBLASLt's descriptors of the calls of the layers") {
  const int64_t rows = 2 * 17, in = 12, out = 20;
  const GemmShape forward{rows, out, in, false, true}, dgrad{rows, in, out},
      wgrad{out, in, rows, true, false};
  for (const int parts : {int{Bias}, Bias | Residual, Bias | Gelu, Bias | Gelu | PreGelu})
    check_plan(forward, parts);
  for (const int parts : {0, int{GeluGrad}}) check_plan(dgrad, parts);
  for (const int parts : {0, int{SumA}}) check_plan(wgrad, parts);
}

TEST_CASE("cuBLASLt's descriptors: types, leading dimensions, vectors") {
  const auto forward = gemm_plan({34, 20, 12, false, true}, DType::BF16, DType::BF16, fusion(Bias));
  REQUIRE(forward);
  CHECK(forward->layout.a.ld == 12);  // W (20, 12)
  CHECK(forward->layout.b.ld == 12);  // x (34, 12)
  CHECK(forward->layout.d.ld == 20);  // y (34, 20)
  CHECK(forward->layout.d.type == DType::BF16);
  CHECK(forward->layout.vector_size == 20);
  const auto wgrad = gemm_plan({20, 12, 34, true, false}, DType::BF16, DType::F32, fusion(SumA));
  REQUIRE(wgrad);
  CHECK(wgrad->layout.a.type == DType::BF16);
  CHECK(wgrad->layout.d.type == DType::F32);
  CHECK(wgrad->layout.epilogue == GemmLayout::Epilogue::BiasGradB);
  CHECK(wgrad->layout.vector_size == 20);
}

TEST_CASE("cuBLASLt: what it does not have is left to our own kernel") {
  const GemmShape s{4, 8, 8};
  const auto refused = [&](GemmShape shape, DType type, DType out, int parts) {
    return !gemm_plan(shape, type, out, fusion(parts));
  };
  for (const int parts : {Gelu | Residual, GeluGrad | Residual, Gelu | GeluGrad, int{PreGelu}})
    CHECK_MESSAGE(refused(s, DType::F32, DType::F32, parts), "parts ", parts);
  for (const int parts : {int{Bias}, int{Residual}, int{Gelu}, int{GeluGrad}})
    CHECK_MESSAGE(refused(s, DType::BF16, DType::F32, parts), "parts ", parts);
  CHECK(refused({8, 4, 8, true, false}, DType::BF16, DType::BF16, SumA));
  CHECK(refused({8, 4, 8}, DType::F32, DType::F32, SumA));
  for (const GemmShape& empty :
       {GemmShape{0, 8, 8}, GemmShape{4, 0, 8}, GemmShape{4, 8, 0}, GemmShape{-1, 8, 8}})
    CHECK(refused(empty, DType::F32, DType::F32, 0));
}

TEST_CASE("the name of a product in a table of choices") {
  CHECK(gemm_key({384, 1536, 50432, true, false}, DType::BF16, DType::F32, fusion(SumA)) ==
        "gemm BF16>F32 384x1536x50432 TN sum_a");
  CHECK(gemm_key({50432, 1152, 384, false, true}, DType::BF16, DType::BF16, fusion(Bias | Residual)) ==
        "gemm BF16 50432x1152x384 NT bias residual");
}

}  // namespace
}  // namespace qfm::test
