#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#ifdef QFM_CUDA_HOST
#include "tests/kernel_tally.h"
#endif

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  int status = context.run();
#ifdef QFM_CUDA_HOST
  if (context.shouldExit()) return status;
  qfm::test::print_kernel_tally();
#ifdef QFM_TESTS_ALL_KERNELS
  if (argc == 1 && !qfm::test::all_kernels_ran()) status = 1;
#endif
#endif
  return status;
}
