// kernels/gemm/gemm_cublas.cpp with a library that refuses and fails to order: which answers our own kernel
// takes over from. No GPU is needed: nothing is multiplied.
#include <dlfcn.h>

#include <array>
#include <cstdlib>

#include "engine/cuda/cuda.h"
#include "kernels/gemm/gemm_cublas.h"
#include "kernels/vendor/vendor.h"
#include "tests/kernels/fake_cublas.h"
#include "tests/support.h"

namespace qfm::test {
namespace {

// The library, with what it does by itself, and no memory of failures.
FakeCublas& fake() {
  static FakeCublas* const one = [] {
    ::setenv("CUBLAS_ROOT", QFM_FAKE_CUBLAS_FOLDER, 1);
    REQUIRE(VendorLibrary::of(Vendor::CublasLt).open());
    void* const opened = ::dlopen(QFM_FAKE_CUBLAS_FOLDER "/libcublasLt.so.13", RTLD_LAZY | RTLD_NOLOAD);
    REQUIRE(opened);
    return reinterpret_cast<FakeCublasSymbol*>(::dlsym(opened, kFakeCublasSymbol))();
  }();
  *one = {};
  forget_vendor_failures();
  return *one;
}

// One product of F32 by a suggestion. Products of a size are kept: each case has its own.
bool multiply(int64_t size, int suggestion = 0, bool sums = false) {
  static std::array<float, 4096> a, b, c, sum_a;
  REQUIRE(static_cast<size_t>(size * size) <= c.size());
  GemmEpilogue<float> e;
  if (sums) e.sum_a = sum_a.data();
  return cublas::gemm_by(Cuda{}, suggestion, {size, size, size, sums, false}, c.data(), a.data(), b.data(),
                         e);
}

TEST_CASE("whatever the heuristic refuses with, there is no suggestion, and nothing is a failure") {
  FakeCublas& library = fake();
  int64_t size = 1;
  for (const cublasStatus_t status :
       {CUBLAS_STATUS_NOT_SUPPORTED, CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_ARCH_MISMATCH,
        CUBLAS_STATUS_INTERNAL_ERROR, CUBLAS_STATUS_NOT_INITIALIZED, CUBLAS_STATUS_EXECUTION_FAILED}) {
    CAPTURE(static_cast<int>(status));
    library.suggesting = status;
    CHECK_FALSE(multiply(++size));
  }
  CHECK(library.multiplied.empty());
  CHECK(vendor_failures().empty());
}

TEST_CASE("missing memory is said as such, and the product asked for again") {
  FakeCublas& library = fake();
  library.suggesting = CUBLAS_STATUS_ALLOC_FAILED;
  CHECK_THROWS_AS(multiply(11), OutOfMemory);
  library.suggesting = CUBLAS_STATUS_SUCCESS, library.multiplying = CUBLAS_STATUS_ALLOC_FAILED;
  CHECK_THROWS_AS(multiply(11), OutOfMemory);
  library.multiplying = CUBLAS_STATUS_SUCCESS;
  CHECK(multiply(11));
  CHECK(vendor_failures().empty());
}

TEST_CASE("a suggestion that fails to run is not tried again; the next one and other products are") {
  FakeCublas& library = fake();
  library.multiplying = CUBLAS_STATUS_EXECUTION_FAILED;
  const uint64_t before = vendor_calls();
  CHECK_FALSE(multiply(12));
  CHECK(library.multiplied.size() == 1);
  library.multiplying = CUBLAS_STATUS_SUCCESS;
  CHECK_FALSE(multiply(12));
  CHECK(library.multiplied.size() == 1);
  CHECK(vendor_calls() == before);
  CHECK(multiply(12, 1));
  CHECK(multiply(13));
  CHECK_FALSE(multiply(13, 2));
  CHECK(vendor_calls() == before + 2);
  CHECK(vendor_failures() ==
        std::map<std::string, std::string>{
            {"gemm F32 12x12x12 NN = vendor 0", "cublaslt: matmul: CUBLAS_STATUS_EXECUTION_FAILED"}});
}

TEST_CASE("a weight gradient whose sums the library fails at is tried without them") {
  if (cuda::available()) QFM_SKIP("on a GPU our own sums would be made of the host's memory");
  FakeCublas& library = fake();
  library.multiplying = CUBLAS_STATUS_EXECUTION_FAILED;
  CHECK_FALSE(multiply(14, 0, true));
  CHECK(library.multiplied == std::vector{CUBLASLT_EPILOGUE_BGRADB, CUBLASLT_EPILOGUE_DEFAULT});
  CHECK(vendor_failures().size() == 2);
  library.suggestions = 0;  // of the sums; the product without is known from before
  library.multiplying = CUBLAS_STATUS_SUCCESS, library.multiplied.clear();
  CHECK_FALSE(multiply(15, 0, true));
  CHECK(library.multiplied.empty());
}

TEST_CASE("a residual that is to be overwritten goes to our own kernel, which could not repeat a failure") {
  FakeCublas& library = fake();
  std::array<float, 4> a{}, b{}, c{};
  GemmEpilogue<float> e;
  e.residual = c.data();
  CHECK_FALSE(cublas::gemm_by(Cuda{}, 0, {2, 2, 2}, c.data(), a.data(), b.data(), e));
  CHECK(library.multiplied.empty());
}

}  // namespace
}  // namespace qfm::test
