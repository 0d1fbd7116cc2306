// kernels/optim/adamw.cu, on a GPU or in host-CUDA, against the plain function.
#include <limits>

#include "kernels/optim/adamw.h"
#include "tests/kernels/cuda_kernels.h"

namespace qfm::test {
namespace {

constexpr AdamWRule kRule;
constexpr double kRate = 0.01;
constexpr int64_t kStep = 3;

template <class T>
struct Buffers {
  std::vector<float> master, m, v, gradient;
  std::vector<T> copy;
};

template <class T>
Buffers<T> before(int64_t n) {
  Buffers<T> b{random<float>("p", 0, n), random<float>("m", 0, n), random<float>("v", 0, n),
               random<float>("g", 0, n), unwritten<T>(n)};
  for (float& x : b.v) x *= x;
  return b;
}

// squares: of the whole gradient, which may be longer than this buffer.
template <class T>
Buffers<T> on_cuda(const Buffers<T>& b, double squares, float loss, int64_t decayed, size_t shift) {
  Guarded<float> master(cuda_device, b.master, shift), m(cuda_device, b.m, shift), v(cuda_device, b.v, shift);
  Guarded<float> gradient(cuda_device, b.gradient, shift), losses(cuda_device, std::vector<float>{loss});
  Guarded<T> copy(cuda_device, b.copy, shift);
  StepState state{};
  state.lr = kRate, state.step = kStep, state.squares = squares;
  Guarded<StepState> states(cuda_device, std::vector<StepState>{state});
  adamw(Cuda{}, kRule, states.data(), losses.data(), master.data(),
        copy.data(), m.data(), v.data(), gradient.data(), static_cast<int64_t>(b.master.size()), decayed);
  CHECK(states.values()[0].finite == (std::isfinite(loss) && std::isfinite(squares)));
  CHECK(same_bits(gradient.values(), b.gradient));
  return {master.values(), m.values(), v.values(), b.gradient, copy.values()};
}

template <class T>
Buffers<T> plain(Buffers<T> b, double squares, int64_t decayed) {
  const PathScope path(CpuIsa::Plain);
  const auto update = [&](AdamWRule rule, int64_t first, int64_t n) {
    const auto factors = adamw_scalars<float>(rule, kRate, kStep, clip_factor(rule, std::sqrt(squares)));
    adamw(cpu, factors, b.master.data() + first, b.copy.data() + first, b.m.data() + first,
          b.v.data() + first, b.gradient.data() + first, n);
  };
  AdamWRule bare = kRule;
  bare.weight_decay = 0;
  update(kRule, 0, decayed);
  update(bare, decayed, static_cast<int64_t>(b.master.size()) - decayed);
  return b;
}

TEST_CASE_TEMPLATE("AdamW on CUDA equals the plain function", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const int64_t n : {0, 1, 7, 197, 1024})
    for (const size_t shift : {0, 1})
      for (const double squares : {1.0, 900.0}) {  // the second is clipped
        CAPTURE(n);
        const int64_t decayed = n * 2 / 3;
        const Buffers<T> b = before<T>(n), expected = plain(b, squares, decayed);
        const Buffers<T> found = on_cuda(b, squares, 0.5f, decayed, shift);
        const auto check = [](DType type, const auto& got, const auto& want) {
          CHECK(within(type, converted<double>(got), converted<double>(want), 1));
        };
        check(DType::F32, found.master, expected.master);
        check(DType::F32, found.m, expected.m);
        check(DType::F32, found.v, expected.v);
        check(dtype_of<T>, found.copy, expected.copy);
      }
}

TEST_CASE("AdamW on CUDA changes nothing when the loss or the norm is not finite") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Buffers<bf16> b = before<bf16>(197);
  const auto unchanged = [&](double squares, float loss) {
    const Buffers<bf16> found = on_cuda(b, squares, loss, 100, 0);
    return same_bits(found.master, b.master) && same_bits(found.m, b.m) && same_bits(found.v, b.v) &&
           same_bits(found.copy, b.copy);
  };
  CHECK(unchanged(1.0, nan));
  CHECK(unchanged(double{nan}, 1.0f));
  CHECK_FALSE(unchanged(1.0, 1.0f));
}

TEST_CASE("the moving average on CUDA equals the plain function, and stands still with its update") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const int64_t n : {0, 1, 7, 197, 1024})
    for (const size_t shift : {0, 1})
      for (const int64_t finite : {0, 1}) {
        CAPTURE(n);
        const auto average = random<float>("average", 0, n), master = random<float>("master", 0, n);
        Guarded<float> averages(cuda_device, average, shift), masters(cuda_device, master, shift);
        StepState state{};
        state.finite = finite;
        Guarded<StepState> states(cuda_device, std::vector<StepState>{state});
        moving_average(Cuda{}, states.data(), averages.data(), masters.data(), 0.9, n);
        auto expected = average;
        if (finite) moving_average(cpu, expected.data(), master.data(), 0.9, n);
        CHECK(within(DType::F32, converted<double>(averages.values()), converted<double>(expected), 1));
        if (!finite) CHECK(same_bits(averages.values(), average));
      }
}

}  // namespace
}  // namespace qfm::test
