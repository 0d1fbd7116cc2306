// The table of kernels/cases on a GPU or in host-CUDA against the plain code: aligned and not, under several
// schedules of host-CUDA.
#include <array>

#include "engine/cuda/cuda.h"
#include "tests/kernels/case_runs.h"
#include "tests/schedules.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

void compare(const KernelCase& c, const Values& found, const Values& expected) {
  for (size_t i = 0; i < found.size(); ++i) {
    const CaseArray& a = c.arrays[i];
    if (!is_written(a)) continue;
    CAPTURE(a.name);
    if (a.equal == Equal::Bits) CHECK(found[i] == expected[i]);
    else
      check_close(a.name, doubles_of(found[i], a.type), doubles_of(expected[i], a.type), tolerance_type(c, a),
                  c.length);
  }
}

void check_case(const KernelCase& c, const Values& in) {
  const PathScope plain(CpuIsa::Plain);
  const Values expected = run_case(c, cpu_device, in);
  Values first;
  for (const size_t shift : {1, 0}) {
    CAPTURE(shift);
    first = run_case(c, cuda_device, in, shift);
    compare(c, first, expected);
  }
  for_schedules([&] {
    const Values again = run_case(c, cuda_device, in);
    for (size_t i = 0; i < again.size(); ++i)
      if (is_written(c.arrays[i])) CHECK(again[i] == first[i]);
  });
}

// Sums over nothing may be NaN, and a sum over a very long row that cancels is far from itself.
void check_cases(int64_t batch, int64_t rows, int64_t width) {
  CAPTURE(batch);
  CAPTURE(rows);
  CAPTURE(width);
  for (const DType type : {DType::F32, DType::BF16}) {
    CAPTURE(name_of(type));
    const auto cases = small_cases(batch, rows, width, type);
    const auto inputs = inputs_of(cases);
    for (size_t k = 0; k < cases.size(); ++k) {
      const KernelCase& c = cases[k];
      CAPTURE(c.name);
      // Sums that cancel: qfm_losses_cuda_test.cpp has inputs as they come.
      if (c.name == "selection_loss" || c.name == "similarity_cross_entropy") continue;
      const bool sums = c.group != "pointwise" && c.group != "image";
      if (!sums || (batch * rows * width > 0 && width < 2000)) check_case(c, inputs[k]);
    }
  }
}

TEST_CASE("kernels on CUDA equal the plain code") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const auto [batch, rows, width] : {std::array<int64_t, 3>{1, 0, 5},
                                          {1, 5, 0},
                                          {1, 1, 1},
                                          {1, 1, 7},
                                          {1, 1, 8},
                                          {3, 7, 13},
                                          {3, 8, 16},
                                          {1, 197, 8},
                                          {2, 131, 24},
                                          {1, 17, 192},
                                          {1, 3, 1009},
                                          {1, 1, 4104}})
    check_cases(batch, rows, width);
}

}  // namespace
}  // namespace qfm::test
