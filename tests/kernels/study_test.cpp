// kernels/study: every step of every ladder, on a GPU or in host-CUDA, against the plain functions in double.
#include "kernels/study/study.h"

#include <array>

#include "kernels/norm/layernorm.h"
#include "tests/kernels/attention_problem.h"
#include "tests/kernels/cuda_kernels.h"
#include "tests/kernels/gemm_problem.h"

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

TEST_CASE("study: every step of attention computes it") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const AttentionCase& c : {AttentionCase{{0, 2, 3, 4, 8}},
                                 {{2, 1, 0, 4, 8}},
                                 {{1, 1, 1, 1, 1}},
                                 {{2, 2, 6, 9, 5}, 1.5, 3},
                                 {{1, 2, 21, 70, 16}, 1.5, 8},
                                 {{1, 1, 70, 21, 64}, 1.5, 0, 1},
                                 {{1, 1, 5, 33, 72}},
                                 {{1, 1, 18, 197, 64}, 3}}) {
    const AttentionInputs<bf16> in(c);
    const Doubles q = converted<double>(in.q), k = converted<double>(in.k), v = converted<double>(in.v);
    Doubles expected(q.size());
    const int64_t ld = c.dim();
    attention_forward<double>(cpu, c.s, {expected.data(), ld}, nullptr, {q.data(), ld}, {k.data(), ld},
                              {v.data(), ld});
    for (const auto& step : attention_steps()) {
      INFO(step.name, ": queries ", c.s.queries, " keys ", c.s.keys, " d ", c.s.head_dim);
      using Parts = std::vector<std::vector<bf16>>;
      Packed<bf16> own(c, c.s.queries, Parts{in.q}), others(c, c.s.keys, Parts{in.k, in.v});
      Packed<bf16> o(c, c.s.queries, 1);
      step.run(Cuda{}, c.s, o.view(0), own.input(0), others.input(0), others.input(1));
      CHECK(within<bf16>(o.part(0), expected, 2));  // p and o are rounded, sums are not
    }
  }
}

TEST_CASE("study: every step of the convolution computes it") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const auto square = [](int64_t size, int64_t stride, int64_t pad, int64_t dilation = 1) {
    return Window{size, stride, pad, pad, dilation};
  };
  for (const ConvShape& s : {ConvShape{1, 1, 1, 1, 1, 1, square(1, 1, 0), square(1, 1, 0)},
                             {2, 3, 7, 5, 5, 1, square(3, 1, 1), square(3, 1, 1)},
                             {1, 16, 9, 8, 70, 1, square(1, 1, 0), square(1, 1, 0)},
                             {2, 3, 17, 19, 8, 1, square(7, 2, 3), square(7, 2, 3)},
                             {1, 5, 9, 11, 33, 1, square(2, 3, 1), {3, 2, 2, 0, 2}}}) {
    const auto x = random<bf16>("x", 0, s.batch * s.in_channels * s.height * s.width),
               w = random<bf16>("w", 1, s.out_channels * s.in_channels * s.taps());
    const int64_t size = s.batch * s.out_channels * s.out_height() * s.out_width();
    auto expected = unwritten<double>(size);
    conv2d_forward(cpu, s, expected.data(), converted<double>(x).data(), converted<double>(w).data());
    for (const auto& step : conv_steps())
      for (const size_t shift : {0, 1}) {
        INFO(step.name, ": ", s.in_channels, " x ", s.height, " x ", s.width, " to ", s.out_channels);
        Guarded<bf16> on_x(cuda_device, x, shift), on_w(cuda_device, w, shift), y(cuda_device, size, shift);
        step.run(Cuda{}, s, y.data(), on_x.data(), on_w.data());
        CHECK(within<bf16>(converted<double>(y.values()), expected, s.in_channels * s.taps()));
      }
  }
}

TEST_CASE("study: every step of the layer normalisation computes it") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const auto& step : layernorm_steps())
    for (const auto& [r, c] : {std::array<int64_t, 2>{0, 5},
                               {1, 1},
                               {197, 8},
                               {7, 13},
                               {70, 192},
                               {131, 384},
                               {5, 768},
                               {3, 1009},
                               {2, 1032}}) {
      CAPTURE(std::string(step.name));
      CAPTURE(c);
      const KernelCall<bf16> call{
          concat("layernorm ", r, "x", c),
          {random<bf16>("x", 0, r * c), random<bf16>("w", 0, c), random<bf16>("b", 0, c)},
          {{r * c, Equal::Rounding}},
          {{r, Equal::Rounding}, {r, Equal::Rounding}},
          c};
      check_kernel(call, [&, r = r, c = c](auto dev, auto in, auto out, auto sums) {
        if constexpr (std::is_same_v<decltype(dev), Cuda>)
          step.run(dev, r, c, out[0], sums[0], sums[1], in[0], in[1], in[2]);
        else layernorm_forward(dev, out[0], sums[0], sums[1], in[0], in[1], in[2], r, c, 1e-6);
      });
    }
}

}  // namespace
}  // namespace qfm::test
