// Every op of the table: gradients by finite differences, each fast path and device against the plain CPU
// path, BF16 against F32.
#include <cmath>

#include "engine/base/cpu.h"
#include "engine/cuda/cuda.h"
#include "tests/layers/op_cases.h"
#include "tests/scopes.h"
#include "tests/support.h"
#include "tests/tolerance.h"

using namespace qfm;
using namespace qfm::test;

namespace {

double weighted_sum(const Tensor& y, const Tensor& dy) {
  double sum = 0;
  const auto a = y.span<double>(), b = dy.span<double>();
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

void compare(const OpCase& c, const std::vector<Tensor>& got, const std::vector<Tensor>& expected,
             DType dtype) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    if (expected[i].empty()) continue;
    check_close(c.name, got[i].span<double>(), expected[i].span<double>(), dtype, c.reduction);
  }
}

}  // namespace

TEST_CASE("gradients equal central differences in F64") {
  const PathScope plain(CpuIsa::Plain);
  for (const OpCase& c : op_cases()) {
    CAPTURE(c.name);
    const std::vector<Var> inputs = make_inputs(c, DType::F64, cpu_device);
    const Var y = c.build(inputs);
    const Tensor dy = run(c, DType::F64)[0].clone();
    for (size_t i = 0; i < dy.span<double>().size(); ++i)
      dy.span<double>()[i] = std::sin(1.0 + static_cast<double>(i));
    backward(y, dy);
    const NoGrad no_grad;
    for (size_t k = 0; k < inputs.size(); ++k) {
      if (!inputs[k].needs_grad()) continue;
      const auto values = inputs[k].value.span<double>();
      const auto grad = inputs[k].grad().span<double>();
      const double scale = std::max(1.0, test::largest(inputs[k].grad().span<double>()));
      const size_t stride = std::max<size_t>(1, values.size() / 23);  // 23 or more elements of each input
      for (size_t i = 0; i < values.size(); i += stride) {
        const double kept = values[i], h = 1e-5;
        values[i] = kept + h;
        const double up = weighted_sum(c.build(inputs).value, dy);
        values[i] = kept - h;
        const double down = weighted_sum(c.build(inputs).value, dy);
        values[i] = kept;
        CAPTURE(k);
        CAPTURE(i);
        CHECK(std::fabs((up - down) / (2 * h) - grad[i]) <= 1e-6 * scale);
      }
    }
  }
}

TEST_CASE("each fast CPU path equals the plain one, forward and backward") {
  for (CpuIsa path : {CpuIsa::Avx2, CpuIsa::Avx512}) {
    if (!available(path)) {
      MESSAGE("not on this machine: " << std::string(name_of(path)));
      continue;
    }
    for (DType dtype : {DType::F32, DType::BF16})
      for (const OpCase& c : op_cases()) {
        CAPTURE(c.name);
        CAPTURE(name_of(path));
        CAPTURE(name_of(dtype));
        std::vector<Tensor> expected, got;
        {
          const PathScope guard(CpuIsa::Plain);
          expected = run(c, dtype);
        }
        {
          const PathScope guard(path);
          got = run(c, dtype);
        }
        compare(c, got, expected, dtype);
      }
  }
}

TEST_CASE("F32 and BF16 equal F64 within their rounding") {
  for (DType dtype : {DType::F32, DType::BF16})
    for (const OpCase& c : op_cases()) {
      CAPTURE(c.name);
      CAPTURE(name_of(dtype));
      compare(c, run(c, dtype), run(c, DType::F64), dtype);
    }
}

TEST_CASE("CUDA equals the CPU, forward and backward") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (DType dtype : {DType::F32, DType::BF16})
    for (const OpCase& c : op_cases()) {
      CAPTURE(c.name);
      CAPTURE(name_of(dtype));
      compare(c, run(c, dtype, cuda_device), run(c, dtype), dtype);
    }
}
