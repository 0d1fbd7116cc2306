// kernels/pointwise/elementwise.cu, gelu.cu, patchify.cu on a GPU or in host-CUDA against the plain
// functions: bit by bit, but for exp, erf and sums.
#include "kernels/image/patchify.h"
#include "kernels/pointwise/elementwise.h"
#include "kernels/pointwise/gelu.h"
#include "tests/kernels/cuda_kernels.h"

namespace qfm::test {
namespace {

struct Size {
  int64_t rows, cols;
};
constexpr Size kSizes[] = {{0, 5},   {5, 0},     {1, 1},    {7, 13},  {5, 16},
                           {197, 8}, {131, 192}, {3, 1009}, {1, 4104}};

TEST_CASE_TEMPLATE("layerscale on CUDA: sums over more rows than one slot has", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  constexpr int64_t r = 1024 * 64 + 77, c = 3;
  const auto x = random<T>("x", 0, r * c), y = random<T>("y", 0, r * c), p = random<T>("p", 0, c);
  check_kernel<T>({"layerscale.backward", {x, y, p}, {{r * c}}, {{c, Equal::Rounding}}, r},
                  [=](auto dev, auto in, auto out, auto sums) {
                    layerscale_backward(dev, out[0], sums[0], in[0], in[1], in[2], r, c);
                  });
  check_kernel<T>({"layerscale without a residual", {x, p}, {{r * c}}, {}},
                  [=](auto dev, auto in, auto out, auto) {
                    layerscale_forward(dev, out[0], in[0], in[1], static_cast<const T*>(nullptr), r, c);
                  });
}

TEST_CASE_TEMPLATE("permutations on CUDA equal the plain functions", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const auto [r, c] : kSizes) {
    CAPTURE(r);
    CAPTURE(c);
    const auto x = random<T>("x", 0, 3 * r * c), whole = random<T>("whole", 0, 3 * (r + 2) * c);
    // The rows around the copied ones stay as they are.
    check_kernel<T>({"copy_tokens", {x, whole}, {{3 * (r + 2) * c}, {3 * r * c}}, {}},
                    [=](auto dev, auto in, auto out, auto) {
                      copy_tokens(dev, {1, 3 * (r + 2), c, 3 * (r + 2), 0, 3 * (r + 2), 0}, out[0], in[1]);
                      copy_tokens(dev, {3, r, c, r + 2, 1, r, 0}, out[0], in[0]);
                      copy_tokens(dev, {3, r, c, r, 0, r + 2, 2}, out[1], in[1]);
                    });
    check_kernel<T>({"copy_tokens, repeated", {x}, {{3 * r * c}}, {}},
                    [=](auto dev, auto in, auto out, auto) {
                      copy_tokens(dev, {3, r, c, r, 0, r, 0, true}, out[0], in[0]);
                    });
  }
  for (const PatchShape s : {PatchShape{2, 3, 8, 12, 4},
                             {1, 1, 1, 1, 1},
                             {3, 2, 15, 10, 5},
                             {2, 3, 32, 48, 16},
                             {0, 3, 8, 8, 4},
                             {1, 3, 224, 224, 16}}) {
    const int64_t n = s.batch * s.channels * s.height * s.width;
    check_kernel<T>({"patchify", {random<T>("x", 0, n)}, {{n}, {n}}, {}},
                    [=](auto dev, auto in, auto out, auto) {
                      patchify(dev, s, out[0], in[0]);
                      unpatchify(dev, s, out[1], in[0]);
                    });
  }
}

TEST_CASE_TEMPLATE("casts on CUDA, add and scale in place", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const int64_t n : {0, 1, 7, 8, 197, 1000}) {
    const auto a = random<T>("a", 0, n), b = random<T>("b", 1, n);
    check_kernel<T>({"to float and back", {a}, {{n}}, {{n}}}, [=](auto dev, auto in, auto out, auto sums) {
      cast(dev, sums[0], in[0], n);
      cast(dev, out[0], sums[0], n);
    });
    check_kernel<T>({"in place", {a, b}, {{n}, {n}}, {}}, [=](auto dev, auto in, auto out, auto) {
      cast(dev, out[0], in[0], n), cast(dev, out[1], in[1], n);
      add(dev, out[0], out[0], in[1], n);
      add(dev, out[1], out[0], out[1], n);
      scale(dev, out[0], out[0], -1.7, n);
      add(dev, out[0], out[0], out[0], n);
    });
  }
}

TEST_CASE("sigmoid and gelu on CUDA: far tails, infinities, NaN") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  constexpr float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x{-inf, -200, -30, -9,  0,
                             9,    30,   200, inf, std::numeric_limits<float>::quiet_NaN()};
  const std::vector<float> ones(10, 1.0f);
  const auto n = static_cast<int64_t>(x.size());
  const KernelCall<float> call{"tails", {x, ones}, {{n}, {n}, {n}}, {}};
  const auto r = run_kernel(Cuda{}, call, 0, [=](auto dev, auto in, auto out, auto) {
    sigmoid_forward(dev, out[0], in[0], n);
    gelu_forward(dev, out[1], in[0], n);
    gelu_backward(dev, out[2], in[1], in[0], n);
  });
  for (size_t i = 0; i + 1 < x.size(); ++i) {
    CAPTURE(x[i]);
    CHECK(r.out[0][i] == doctest::Approx(1 / (1 + std::exp(-static_cast<double>(x[i])))));
    if (x[i] < inf) CHECK(std::fabs(r.out[1][i] - std::max(x[i], 0.0f)) <= 1e-6f * std::max(1.0f, x[i]));
    else CHECK(r.out[1][i] == inf);
    CHECK(std::fabs(r.out[2][i] - (x[i] > 0 ? 1.0f : x[i] < 0 ? 0.0f : 0.5f)) <= 1e-6f);
  }
  for (const auto& out : r.out) CHECK(std::isnan(out.back()));
}

}  // namespace
}  // namespace qfm::test
