// kernels/elementwise.cu, on a GPU or in host-CUDA, bit by bit against the plain functions.
#include <cstring>
#include <vector>

#include "engine/base/cuda.h"
#include "engine/base/rng.h"
#include "kernels/elementwise.h"
#include "tests/guarded.h"
#include "tests/support.h"

namespace qfm {
namespace {

using test::Guarded;

TEST_CASE_TEMPLATE("add on CUDA equals the plain function, also in place", T, float, bf16) {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  Rng rng(5, "add");
  for (const size_t n : {0, 1, 7, 8, 197, 1000, 5000})
    for (const size_t shift : {0, 1}) {
      CAPTURE(n);
      std::vector<T> a(n), b(n), expected(n);
      for (T& v : a) v = T(rng.normal());
      for (T& v : b) v = T(rng.normal());
      add(Cpu{}, expected.data(), a.data(), b.data(), static_cast<int64_t>(n));
      Guarded<T> x(cuda_device, a, shift), z(cuda_device, b), y(cuda_device, n);
      add(Cuda{}, y.data(), x.data(), z.data(), static_cast<int64_t>(n));
      add(Cuda{}, x.data(), x.data(), z.data(), static_cast<int64_t>(n));
      const auto equal = [&](const std::vector<T>& v) {
        return n == 0 || std::memcmp(v.data(), expected.data(), n * sizeof(T)) == 0;
      };
      CHECK(equal(y.values()));
      CHECK(equal(x.values()));
      z.values();
    }
}

}  // namespace
}  // namespace qfm
