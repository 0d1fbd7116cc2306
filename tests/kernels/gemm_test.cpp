// Matrix products: every path against the plain code, and the promises about equal bits.
#include <cstdlib>

#include "engine/base/error.h"
#include "kernels/pointwise/number.h"
#include "tests/kernels/gemm_problem.h"
#include "tests/support.h"
#include "tests/tolerance.h"

namespace qfm::test {
namespace {

struct Result {
  Doubles c, pre_gelu;
  bool operator==(const Result&) const = default;
};

template <class Out, class T>
Result run(const Problem<T>& p) {
  auto c = unwritten<Out>(p.s.m * p.s.n);
  std::vector<T> pre(p.parts & PreGelu ? c.size() : 0);
  gemm(cpu, p.s, c.data(), p.a.data(), p.b.data(), p.epilogue(pre.data()));
  return {converted<double>(c), converted<double>(pre)};
}

template <class T>
Result run_packed(const Problem<T>& p) {
  std::vector<char> packed(gemm_packed_bytes<T>(cpu, p.s));
  gemm_pack(cpu, p.s, packed.data(), p.b.data());
  auto c = unwritten<T>(p.s.m * p.s.n);
  std::vector<T> pre(p.parts & PreGelu ? c.size() : 0);
  gemm_with_packed(cpu, p.s, c.data(), p.a.data(), packed.data(), p.epilogue(pre.data()));
  return {converted<double>(c), converted<double>(pre)};
}

std::vector<GemmShape> shapes() {
  std::vector<GemmShape> all;
  const int64_t sizes[][3] = {{1, 1, 1},    {1, 1, 0},      {0, 3, 2},    {3, 0, 2},
                              {7, 13, 5},   {2, 31, 17},    {13, 33, 16}, {15, 16, 1},
                              {1, 197, 64}, {197, 1, 31},   {29, 96, 48}, {197, 64, 197},
                              {6, 192, 41}, {43, 70, 1031}, {15, 20, 67}, {7, 5, 50}};
  for (const auto& [m, n, k] : sizes)
    for (bool trans_a : {false, true})
      for (bool trans_b : {false, true}) all.push_back({m, n, k, trans_a, trans_b});
  return all;
}

template <class T, class Out>
void compare_with_plain(GemmShape s, int parts) {
  const Problem<T> p(s, parts);
  Result expected;
  {
    PathScope plain(CpuIsa::Plain);
    expected = run<Out>(p);
  }
  for (const CpuPath& path : simd_paths()) {
    PathScope scope(path);
    CAPTURE(name_of(path));
    CAPTURE(name_of(dtype_of<T>));
    CAPTURE(s.m);
    CAPTURE(s.n);
    CAPTURE(s.k);
    CAPTURE(s.trans_a);
    CAPTURE(s.trans_b);
    CAPTURE(parts);
    const Result found = run<Out>(p);
    CHECK(within<Out>(found.c, expected.c, s.k));
    CHECK(within<T>(found.pre_gelu, expected.pre_gelu, s.k));
  }
}

}  // namespace

TEST_CASE("gemm: the plain code is the sum of products") {
  PathScope plain(CpuIsa::Plain);
  for (const GemmShape& s : shapes()) {
    const Problem<double> p(s, 0);
    Doubles expected;
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t j = 0; j < s.n; ++j) {
        double sum = 0;
        for (int64_t t = 0; t < s.k; ++t)
          sum += p.a[s.trans_a ? t * s.m + i : i * s.k + t] * p.b[s.trans_b ? j * s.k + t : t * s.n + j];
        expected.push_back(sum);
      }
    CHECK(within<double>(run<double>(p).c, expected, s.k));
  }
}

TEST_CASE("gemm: the epilogue applies its parts in the documented order") {
  PathScope plain(CpuIsa::Plain);
  const GemmShape s{3, 5, 7};
  for (int parts = 0; parts < AllParts; ++parts) {
    const Problem<double> p(s, parts), bare(s, 0);
    Result expected{run<double>(bare).c, {}};
    for (int64_t i = 0; i < s.m * s.n; ++i) {
      double& v = expected.c[i];
      if (parts & Bias) v += p.bias[i % s.n];
      if (parts & PreGelu) expected.pre_gelu.push_back(v);
      if (parts & Gelu) v = fn::gelu(v);
      if (parts & GeluGrad) v *= fn::gelu_grad(p.of[i]);
      if (parts & Residual) v += p.residual[i];
    }
    const Result found = run<double>(p);
    CHECK(within<double>(found.c, expected.c, s.k));
    CHECK(within<double>(found.pre_gelu, expected.pre_gelu, s.k));
  }
}

TEST_CASE("gemm: every path agrees with the plain code in every shape and layout") {
  for (const GemmShape& s : shapes()) {
    compare_with_plain<float, float>(s, 0);
    compare_with_plain<bf16, bf16>(s, 0);
    compare_with_plain<bf16, float>(s, 0);
    compare_with_plain<float, float>(s, Bias | Residual);
  }
}

TEST_CASE("gemm: every path agrees with the plain code in every epilogue") {
  for (int parts = 0; parts < AllParts; ++parts) {
    compare_with_plain<float, float>({17, 45, 23, false, true}, parts);
    compare_with_plain<bf16, bf16>({17, 45, 23, false, true}, parts);
    compare_with_plain<float, float>({9, 64, 1030}, parts);
  }
}

TEST_CASE("gemm: packed and unpacked, and any number of threads, give the same bits") {
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    CAPTURE(name_of(path));
    for (const GemmShape& s :
         {GemmShape{197, 70, 48, false, true}, {5, 300, 64}, {61, 33, 210, true, false}}) {
      const Problem<float> p(s, Bias | Gelu | Residual);
      const Problem<bf16> q(s, PreGelu | Residual);
      ThreadScope one(1);
      const Result expected = run<float>(p), narrow = run<bf16>(q), wide = run<float>(q);
      CHECK(run_packed(p) == expected);
      CHECK(run_packed(q) == narrow);
      for (int n : {2, 3}) {
        ThreadScope several(n);
        CHECK(run<float>(p) == expected);
        CHECK(run_packed(p) == expected);
        CHECK(run<bf16>(q) == narrow);
        CHECK(run<float>(q) == wide);
      }
    }
  }
}

TEST_CASE("gemm: an image has the same bits alone and in a batch") {
  const int64_t tokens = 197, batch = 5, n = 45, k = 64;
  for (const CpuPath& path : all_paths()) {
    PathScope scope(path);
    CAPTURE(name_of(path));
    const Problem<float> whole({batch * tokens, n, k, false, true}, Bias | Residual);
    const Doubles all = run<float>(whole).c;
    for (int64_t rows : {tokens, int64_t{1}})
      for (int64_t image = 0; image < batch; ++image) {
        Problem<float> part = whole;
        part.s.m = rows;
        part.a.erase(part.a.begin(), part.a.begin() + image * tokens * k);
        part.residual.erase(part.residual.begin(), part.residual.begin() + image * tokens * n);
        const auto begin = all.begin() + image * tokens * n;
        CHECK(run<float>(part).c == Doubles(begin, begin + rows * n));
      }
  }
}

TEST_CASE("gemm: a negative size is refused") {
  float x = 0;
  CHECK_THROWS_AS(gemm<float>(cpu, {-1, 1, 1}, &x, &x, &x), Error);
}

TEST_CASE("gemm: the compiler keeps the tiles in registers") {
#ifdef QFM_SIMD_OBJECTS
#if defined(__clang__) || __GNUC__ != 12
  QFM_SKIP("that GCC 12 keeps them there is known, of " __VERSION__ " it is not");
#endif
  if (std::system("command -v objdump > /dev/null") != 0)
    QFM_SKIP("no objdump to look for spilled registers");
  CHECK(std::system("sh " QFM_SOURCE_DIR "/tests/kernels/gemm_spill.sh " QFM_SIMD_OBJECTS) == 0);
#else
  QFM_SKIP("a build without vector code, or under a sanitizer, which uses the stack as it likes");
#endif
}

}  // namespace qfm::test
