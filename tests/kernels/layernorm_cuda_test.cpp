// kernels/norm/layernorm.cu, on a GPU or in host-CUDA, against the plain functions in double.
#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>
#include <vector>

#include "engine/base/rng.h"
#include "kernels/norm/layernorm.h"
#include "kernels/norm/layerscale.h"
#include "kernels/pointwise/map.h"
#include "tests/kernels/cuda_kernels.h"

namespace qfm {
namespace {

using test::Guarded;

struct Case {
  int64_t rows, cols;
  float offset = 0, spread = 1;
  size_t shift = 0;  // elements off alignment
};

template <class T>
std::vector<T> random_values(Rng& rng, size_t n, float offset, float spread) {
  std::vector<T> v(n);
  for (T& x : v) x = T(offset + spread * rng.normal());
  return v;
}

template <class T>
std::vector<double> widened(const std::vector<T>& v) {
  std::vector<double> d(v.size());
  std::transform(v.begin(), v.end(), d.begin(),
                 [](T x) { return static_cast<double>(static_cast<acc<T>>(x)); });
  return d;
}

// The largest difference, as a multiple of eps * sqrt(length of the sums) * the size of the values.
template <class T>
double error_ratio(const std::vector<T>& got, const std::vector<double>& expected, double eps,
                   int64_t length) {
  double worst = 0, size = 1;
  for (const double e : expected) size = std::max(size, std::fabs(e));
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(static_cast<acc<T>>(got[i])) - expected[i]);
    worst = difference <= worst ? worst : difference;  // NaN is kept
    if (std::isnan(difference)) return difference;
  }
  return worst / (size * eps * std::sqrt(static_cast<double>(length)));
}

template <class T>
struct Problem {
  std::vector<T> x, w, b, dy;
  explicit Problem(const Case& c) {
    Rng rng(3, "layernorm", static_cast<uint32_t>(c.rows), static_cast<uint32_t>(c.cols));
    x = random_values<T>(rng, c.rows * c.cols, c.offset, c.spread);
    w = random_values<T>(rng, c.cols, 1.0f, 0.3f);
    b = random_values<T>(rng, c.cols, 0.0f, 1.0f);
    dy = random_values<T>(rng, c.rows * c.cols, 0.0f, 1.0f);
  }
};

template <class T>
struct Results {
  std::vector<T> y, dx;
  std::vector<acc<T>> mean, rstd, dw, db;
};

constexpr double kEps = 1e-6;

template <class T>
Results<T> on_cuda(const Problem<T>& p, const Case& c) {
  const Device d = cuda_device;
  const size_t n = c.rows * c.cols;
  Guarded<T> x(d, p.x, c.shift), w(d, p.w), b(d, p.b), dy(d, p.dy), y(d, n, c.shift), dx(d, n);
  Guarded<acc<T>> mean(d, c.rows), rstd(d, c.rows), dw(d, c.cols), db(d, c.cols),
      work(d, layernorm_workspace(c.rows, c.cols));
  layernorm_forward(Cuda{}, y.data(), mean.data(), rstd.data(), x.data(), w.data(), b.data(), c.rows, c.cols,
                    kEps);
  layernorm_backward(Cuda{}, dx.data(), dw.data(), db.data(), dy.data(), x.data(), w.data(), mean.data(),
                     rstd.data(), work.data(), c.rows, c.cols);
  for (auto* input : {&x, &w, &b, &dy}) input->values();
  work.values();
  return {y.values(), dx.values(), mean.values(), rstd.values(), dw.values(), db.values()};
}

Results<double> plain(const Problem<double>& p, const Case& c) {
  const size_t n = c.rows * c.cols;
  Results<double> r{std::vector<double>(n),      std::vector<double>(n),      std::vector<double>(c.rows),
                    std::vector<double>(c.rows), std::vector<double>(c.cols), std::vector<double>(c.cols)};
  std::vector<double> work(layernorm_workspace(c.rows, c.cols));
  layernorm_forward(Cpu{}, r.y.data(), r.mean.data(), r.rstd.data(), p.x.data(), p.w.data(), p.b.data(),
                    c.rows, c.cols, kEps);
  layernorm_backward(Cpu{}, r.dx.data(), r.dw.data(), r.db.data(), p.dy.data(), p.x.data(), p.w.data(),
                     r.mean.data(), r.rstd.data(), work.data(), c.rows, c.cols);
  return r;
}

constexpr Case kCases[] = {{1, 1},
                           {7, 13},
                           {197, 1},
                           {197, 192},
                           {5, 384},
                           {37, 768},
                           {131, 64},
                           {3, 1000},
                           {33, 8},
                           {1, 4097},
                           {64, 256, 0, 1, 1},
                           {9, 96, 0, 1, 3},
                           {5, 13, 1000, 0.05f},
                           {70, 192, 1000, 0.05f},
                           {5, 13, 0, 1e-3f},
                           {4, 32, 3, 0}};

TEST_CASE_TEMPLATE("layernorm on CUDA equals the plain functions in double", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const double eps = std::is_same_v<T, bf16> ? 0x1p-8 : 0x1p-23, eps_acc = 0x1p-23;
  double worst = 0;
  for (const Case& c : kCases) {
    CAPTURE(c.rows);
    CAPTURE(c.cols);
    CAPTURE(c.offset);
    const Problem<T> p(c);
    Problem<double> exact(Case{0, 0});
    exact.x = widened(p.x), exact.w = widened(p.w), exact.b = widened(p.b), exact.dy = widened(p.dy);
    const Results<double> e = plain(exact, c);
    const Results<T> r = on_cuda(p, c);
    for (const double ratio :
         {error_ratio(r.y, e.y, eps, c.cols), error_ratio(r.mean, e.mean, eps_acc, c.cols),
          error_ratio(r.rstd, e.rstd, eps_acc, c.cols), error_ratio(r.dx, e.dx, eps, c.cols),
          error_ratio(r.dw, e.dw, eps_acc, c.rows * c.cols), error_ratio(r.db, e.db, eps_acc, c.rows)}) {
      CHECK(ratio <= 2);
      worst = std::max(worst, ratio);
    }
  }
  MESSAGE("layernorm " << std::string(name_of(dtype_of<T>)) << ": worst error " << worst
                       << " eps sqrt(n), allowed 2");
}

TEST_CASE("layernorm on CUDA: no rows give zero gradients of w and b") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const Case none{0, 7};
  const Results<float> r = on_cuda(Problem<float>(none), none);
  CHECK(r.dw == std::vector<float>(7, 0.0f));
  CHECK(r.db == std::vector<float>(7, 0.0f));
}

// Inputs x, gamma, residual, w, b, dy, dsum; outputs sum, y, dsum, dx; sums mean, rstd, dw, db, dgamma.
// Fused, or by the functions that the fused ones stand for. On CUDA there is no layerscale by itself.
struct ResidualLayernorm {
  int64_t r, c;
  bool scaled, with_dsum;

  template <class Dev, class T>
  void fused(Dev dev, const T* const* in, T* const* out, acc<T>* const* sums) const {
    const T *gamma = scaled ? in[1] : nullptr, *dsum = with_dsum ? in[6] : nullptr;
    residual_layernorm_forward(dev, out[0], out[1], sums[0], sums[1], in[0], gamma, in[2], in[3], in[4], r, c,
                               kEps);
    residual_layernorm_backward(dev, out[2], out[3], sums[4], sums[2], sums[3], in[5], dsum, out[0], in[0],
                                gamma, in[3], sums[0], sums[1], r, c);
  }
  template <class Dev, class T>
  void in_turn(Dev dev, const T* const* in, T* const* out, acc<T>* const* sums) const {
    if constexpr (std::is_same_v<Dev, Cpu>)
      if (scaled) layerscale_forward(dev, out[0], in[0], in[1], in[2], r, c);
    if (!scaled) map(dev, fn::Add{}, flat_space<2>(r * c), out[0], MapInputs<T, 2>{{in[2], in[0]}});
    layernorm_forward(dev, out[1], sums[0], sums[1], out[0], in[3], in[4], r, c, kEps);
    Guarded<acc<T>> work(std::is_same_v<Dev, Cuda> ? cuda_device : cpu_device,
                         static_cast<size_t>(layernorm_workspace(r, c)));
    layernorm_backward(dev, out[2], sums[2], sums[3], in[5], out[0], in[3], sums[0], sums[1], work.data(), r,
                       c);
    if (with_dsum) map(dev, fn::Add{}, flat_space<2>(r * c), out[2], MapInputs<T, 2>{{out[2], in[6]}});
    if constexpr (std::is_same_v<Dev, Cpu>)
      if (scaled) layerscale_backward(dev, out[3], sums[4], out[2], in[0], in[1], r, c);
  }
};

TEST_CASE_TEMPLATE("residual_layernorm equals the plain function, and has the bits of its parts", T, float,
                   bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  using test::random, test::Output;
  for (const auto& [r, c] : {std::array<int64_t, 2>{0, 5},
                             {1, 1},
                             {7, 13},
                             {197, 8},
                             {70, 192},
                             {131, 64},
                             {5, 384},
                             {3, 768},
                             {9, 1000}})
    for (const bool scaled : {false, true})
      for (const bool with_dsum : {false, true}) {
        CAPTURE(scaled);
        CAPTURE(with_dsum);
        const int64_t n = r * c;
        const ResidualLayernorm f{r, c, scaled, with_dsum};
        const Output rows{n, Equal::Rounding}, row{r, Equal::Rounding}, column{c, Equal::Rounding},
            if_scaled{scaled ? n : 0, Equal::Rounding}, column_if_scaled{scaled ? c : 0, Equal::RoundingOfT};
        const test::KernelCall<T> call{
            concat("residual_layernorm ", r, "x", c),
            {random<T>("x", 0, n), random<T>("gamma", 0, c), random<T>("r", 0, n), random<T>("w", 0, c),
             random<T>("b", 0, c), random<T>("dy", 0, n), random<T>("dsum", 0, n)},
            {{n}, rows, rows, if_scaled},
            {row, row, column, column, column_if_scaled},
            std::max(r, c)};
        const auto fused = [=](auto dev, auto in, auto out, auto sums) { f.fused(dev, in, out, sums); };
        const auto in_turn = [=](auto dev, auto in, auto out, auto sums) { f.in_turn(dev, in, out, sums); };
        test::check_kernel<T>(call, fused);
        const auto equal = [&](const auto& a, const auto& b, size_t sums) {
          for (size_t i = 0; i < a.out.size(); ++i) CHECK(test::same_bits(a.out[i], b.out[i]));
          for (size_t i = 0; i < sums; ++i) CHECK(test::same_bits(a.sums[i], b.sums[i]));
        };
        equal(test::run_kernel(Cpu{}, call, 0, fused), test::run_kernel(Cpu{}, call, 0, in_turn), 5);
        if (!scaled) equal(test::run_kernel(Cuda{}, call, 0, fused), test::run_kernel(Cuda{}, call, 0, in_turn), 4);
      }
}

#ifdef QFM_CUDA_DEVICE
TEST_CASE("CUDA without a GPU: calls throw and say why") {
  if (cuda::available()) QFM_SKIP("there is a GPU");
  CHECK(test::contains(cuda::unavailable_reason(), "no GPU: "));
  CHECK_THROWS_AS(allocate(cuda_device, 16), OutOfMemory);
  CHECK(test::contains(test::message_of([] { cuda::synchronize(); }), "no GPU: "));
  float v[4] = {};
  const std::string launch =
      test::message_of([&] { layernorm_forward(Cuda{}, v, v, v, v, v, v, 1, 1, kEps); });
  CHECK_MESSAGE(test::contains(launch, "cuda: launch of layernorm_forward_any_kernel<float, 1>: no GPU: "),
                launch);
}
#endif

}  // namespace
}  // namespace qfm
