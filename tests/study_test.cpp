// kernels/study: every step of every ladder, on a GPU or in host-CUDA, against the plain functions in double.
#include "kernels/study/study.h"

#include "engine/base/cuda.h"
#include "tests/gemm_problem.h"
#include "tests/guarded.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

const GemmShape kProducts[] = {{0, 3, 2},   {3, 0, 2},    {5, 7, 0},    {1, 1, 1},
                               {33, 17, 5}, {7, 200, 64}, {64, 72, 40}, {131, 70, 197}};

Doubles plain(const Problem<bf16>& p, int parts) {
  Problem<double> exact(p);
  exact.parts = parts;
  auto c = unwritten<double>(p.s.m * p.s.n);
  gemm(cpu, p.s, c.data(), exact.a.data(), exact.b.data(), exact.epilogue(nullptr));
  return c;
}

// run(y, x, w, bias) of one step.
template <class Run>
void check_step(const char* name, GemmShape s, int parts, Run&& run) {
  s.trans_b = true;
  CAPTURE(std::string(name));
  CAPTURE(s.m);
  CAPTURE(s.n);
  CAPTURE(s.k);
  const Problem<bf16> p(s, parts);
  for (const size_t shift : {0, 1}) {
    Guarded<bf16> x(cuda_device, p.a, shift), w(cuda_device, p.b), bias(cuda_device, p.bias, shift),
        y(cuda_device, s.m * s.n, shift);
    run(s, y.data(), x.data(), w.data(), bias.data());
    CHECK(within<bf16>(converted<double>(y.values()), plain(p, parts), s.k));
  }
}

TEST_CASE("study: every step of the matrix product computes it") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const auto& step : gemm_steps())
    for (const GemmShape& s : kProducts)
      check_step(step.name, s, 0,
                 [&](const GemmShape& t, bf16* y, const bf16* x, const bf16* w, const bf16*) {
                   step.run(Cuda{}, t.m, t.n, t.k, y, x, w);
                 });
}

TEST_CASE("study: every step of bias and GELU computes them") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const auto& step : bias_gelu_steps())
    for (const GemmShape& s : kProducts)
      check_step(step.name, s, Bias | Gelu,
                 [&](const GemmShape& t, bf16* y, const bf16* x, const bf16* w, const bf16* bias) {
                   step.run(Cuda{}, t.m, t.n, t.k, y, x, w, bias);
                 });
}

}  // namespace
}  // namespace qfm::test
