// What is special about kernels/reduce and loss.cu on a GPU or in host-CUDA; see cases_cuda_test.cpp.
#include "kernels/loss/loss.h"
#include "kernels/reduce/reduce.h"
#include "kernels/reduce/softmax.h"
#include "tests/kernels/cuda_kernels.h"

namespace qfm::test {
namespace {

constexpr auto rounding = Equal::Rounding;

TEST_CASE_TEMPLATE("reduce_sum on CUDA: more rows than one slot has", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  constexpr int64_t many = 1024 * 64 + 77;
  check_kernel<T>({"reduce_sum", {random<T>("x", 0, many * 3)}, {{3, rounding}}, {{3, rounding}}, many},
                  [=](auto dev, auto in, auto out, auto sums) {
                    reduce_sum(dev, {1, many, 3}, sums[0], in[0]);
                    reduce_sum(dev, {1, many, 3}, out[0], in[0]);
                  });
}

TEST_CASE_TEMPLATE("reduce_sum on CUDA: more than one block sums", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  constexpr int64_t n = 40008;
  check_kernel<T>({"reduce_sum", {random<T>("x", 0, n), random<T>("f", 0, n)}, {{1, rounding}}, {{1, rounding}}, n},
                  [=](auto dev, auto in, auto out, auto sums) {
                    reduce_sum(dev, {1, n, 1}, sums[0], in[0], in[1]);
                    reduce_sum(dev, {1, n, 1}, out[0], in[0], in[1], 7);
                  });
}

TEST_CASE("rows of zeros on CUDA: l2norm and cosine are 0, gradients finite") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const std::vector<float> zero(14, 0.0f), other(14, 2.0f), one(2, 1.0f);
  check_kernel<float>({"zeros", {zero, other, one}, {{14}, {14}, {2}, {14}, {14}}, {{2}}},
                      [](auto dev, auto in, auto out, auto sums) {
                        l2norm_forward(dev, out[0], sums[0], in[0], 2, 7, 1e-12);
                        l2norm_backward(dev, out[1], in[1], in[0], sums[0], 2, 7, 1e-12);
                        cosine_forward(dev, out[2], in[0], in[1], 2, 7, 1e-8);
                        cosine_backward(dev, out[3], out[4], in[2], in[0], in[1], 2, 7, 1e-8);
                      });
}

TEST_CASE("softmax on CUDA: large values and rows of equal values") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const float same : {0.0f, 80.0f, -1000.0f}) {
    std::vector<float> x(38, same);
    x[37] = same + 160.0f;
    check_kernel<float>({"softmax", {x}, {{38, rounding}}, {}, 19}, [](auto dev, auto in, auto out, auto) {
      softmax_forward(dev, out[0], in[0], 2, 19);
    });
  }
}

TEST_CASE_TEMPLATE("losses on CUDA: value and gradient equal the plain ones", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const int64_t n : {0, 1, 7, 16, 197, 16384, 50001}) {
    CAPTURE(n);
    auto p = random<T>("p", 0, n), t = random<T>("t", 0, n);
    if (n > 1) p[1] = t[1];
    for (const double beta : {1.0, 0.0})
      check_kernel<T>({"smooth_l1", {p, t}, {{n}}, {{1, rounding}}},
                      [=](auto dev, auto in, auto out, auto sums) {
                        smooth_l1(dev, sums[0], out[0], in[0], in[1], beta, n);
                      });
  }
}

TEST_CASE_TEMPLATE("sum_squares on CUDA: in double, whatever the size of the values", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const int64_t n : {0, 1, 7, 197, 16384, 16385, 40009})
    for (const size_t shift : {0, 1}) {
      const auto x = random<T>("sum_squares", 0, n, 1e18);
      const double expected = sum_squares(Cpu{}, x.data(), n);
      double first = -1;
      for_schedules([&] {
        Guarded<T> values(cuda_device, x, shift);
        Guarded<double> sum(cuda_device, 1);
        sum_squares(Cuda{}, sum.data(), values.data(), n);
        const double found = sum.values()[0];
        CHECK(std::fabs(found - expected) <= 1e-12 * expected);
        if (first < 0) first = found;
        CHECK(found == first);
      });
    }
}

}  // namespace
}  // namespace qfm::test
