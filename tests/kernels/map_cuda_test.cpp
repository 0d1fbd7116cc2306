// kernels/pointwise and gather on a GPU or in host-CUDA against the plain functions.
#include "kernels/gather/gather.h"
#include "kernels/pointwise/map.h"
#include "tests/kernels/cuda_kernels.h"

namespace qfm::test {
namespace {

constexpr auto kRounding = Equal::Rounding;

// f over n numbers near `middle`, aligned and not; and with its last input repeated along rows and down columns.
template <int inputs, class T, class F>
void check_map(const char* name, const F& f, double middle) {
  CAPTURE(name);
  for (const auto [rows, cols] : {std::array<int64_t, 2>{1, 1}, {7, 13}, {5, 16}}) {
    const int64_t n = rows * cols;
    auto x = random<double>("x", 0, n, 0.4), p = random<double>("p", 1, n, 0.4);
    for (auto* values : {&x, &p})
      for (double& v : *values) v += middle;
    const std::array<int64_t, 2> whole{rows, cols}, row{1, cols}, column{rows, 1};
    check_kernel<T>({name, {converted<T>(x), converted<T>(p)}, {{n, kRounding}, {n, kRounding}, {n, kRounding}}, {}},
                    [=](auto dev, auto in, auto out, auto) {
                      MapInputs<T, inputs> at;
                      for (int k = 0; k < inputs; ++k) at.at[k] = in[k];
                      for (int k = 0; k < 3; ++k) {
                        std::array<std::span<const int64_t>, inputs> shapes;
                        shapes.fill(whole);
                        shapes[inputs - 1] = k == 0 ? whole : k == 1 ? row : column;
                        map(dev, f, broadcast_space<inputs>(whole, shapes), out[k], at);
                      }
                    });
  }
}

TEST_CASE_TEMPLATE("every function of a map on CUDA equals the plain one", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
#define QFM_MAP_ONE(F, inputs) check_map<inputs, T>(#F, fn::F{}, 1.9);
  QFM_MAP_FUNCTIONS
#undef QFM_MAP_ONE
}

TEST_CASE_TEMPLATE("copies on CUDA equal the plain functions", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const auto [r, c] : {std::array<int64_t, 2>{1, 1}, {7, 13}, {5, 16}, {131, 192}, {3, 1009}}) {
    CAPTURE(r);
    CAPTURE(c);
    // What lies around the copied rows stays as it is; a repeated row; a transposition.
    const CopySpace all{2, {3 * (r + 2), c}, {c, 1}, {c, 1}}, into{3, {3, r, c}, {(r + 2) * c, c, 1}, {r * c, c, 1}},
        repeated{2, {r, c}, {c, 1}, {0, 1}}, turned{2, {c, r}, {r, 1}, {1, c}};
    check_kernel<T>({"strided_copy",
                     {random<T>("x", 0, 3 * r * c), random<T>("whole", 0, 3 * (r + 2) * c)},
                     {{3 * (r + 2) * c}, {r * c}, {r * c}},
                     {}},
                    [=](auto dev, auto in, auto out, auto) {
                      strided_copy(dev, all, out[0], in[1]);
                      strided_copy(dev, into, out[0] + c, in[0]);
                      strided_copy(dev, repeated, out[1], in[0]);
                      strided_copy(dev, turned, out[2], in[0]);
                    });
  }
}

TEST_CASE_TEMPLATE("casts on CUDA, maps in place", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const int64_t n : {0, 1, 7, 8, 197, 1000}) {
    const auto a = random<T>("a", 0, n), b = random<T>("b", 1, n);
    check_kernel<T>({"to float and back", {a}, {{n}}, {{n}}}, [=](auto dev, auto in, auto out, auto sums) {
      cast(dev, sums[0], in[0], n);
      cast(dev, out[0], sums[0], n);
    });
    check_kernel<T>({"in place", {a, b}, {{n}, {n}}, {}}, [=](auto dev, auto in, auto out, auto) {
      const auto add = [&](T* y, const T* p, const T* q) {
        map(dev, fn::Add{}, flat_space<2>(n), y, MapInputs<T, 2>{{p, q}});
      };
      cast(dev, out[0], in[0], n), cast(dev, out[1], in[1], n);
      add(out[0], out[0], in[1]);
      add(out[1], out[0], out[1]);
      add(out[0], out[0], out[0]);
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
    map(dev, fn::Sigmoid{}, flat_space<1>(n), out[0], MapInputs<float, 1>{{in[0]}});
    map(dev, fn::Gelu{}, flat_space<1>(n), out[1], MapInputs<float, 1>{{in[0]}});
    map(dev, fn::Derivative<fn::Gelu>{}, flat_space<2>(n), out[2], MapInputs<float, 2>{{in[1], in[0]}});
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
