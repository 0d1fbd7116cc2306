// kernels/gemm/gemm.cu, on a GPU or in host-CUDA, against the plain functions in double.
#include <cmath>
#include <cstring>

#include "engine/cuda/cuda.h"
#include "tests/guarded.h"
#include "tests/kernels/gemm_problem.h"
#include "tests/support.h"
#include "tests/tolerance.h"
#ifdef QFM_CUDA_HOST
#include "engine/cuda/host/language.h"
#endif

namespace qfm::test {
namespace {

template <class T, class Out>
struct Results {
  std::vector<Out> c;
  std::vector<T> pre_gelu;
  std::vector<acc<T>> sum_a;
};

// shift: elements by which all matrices are moved off their alignment.
template <class T, class Out>
Results<T, Out> on_cuda(const Problem<T>& p, size_t shift = 0) {
  const Device d = cuda_device;
  const size_t size = p.s.m * p.s.n;
  Guarded<T> a(d, p.a, shift), b(d, p.b, shift), bias(d, p.bias, shift), of(d, p.of, shift),
      residual(d, p.residual, shift), pre(d, size, shift);
  Guarded<Out> c(d, size, shift);
  Guarded<acc<T>> sum_a(d, p.s.m, shift);
  GemmEpilogue<T> e;
  if (p.parts & Bias) e.bias = bias.data();
  if (p.parts & PreGelu) e.pre_gelu = pre.data();
  e.gelu = p.parts & Gelu;
  if (p.parts & GeluGrad) e.times_gelu_grad_of = of.data();
  if (p.parts & Residual) e.residual = residual.data();
  if (p.parts & SumA) e.sum_a = sum_a.data();
  gemm_own(Cuda{}, p.s, c.data(), a.data(), b.data(), e);
  for (auto* input : {&a, &b, &bias, &of, &residual}) input->values();
  Results<T, Out> r{c.values(), pre.values(), sum_a.values()};
  if (!(p.parts & PreGelu)) r.pre_gelu.clear();
  if (!(p.parts & SumA)) r.sum_a.clear();
  return r;
}

Results<double, double> plain(const Problem<double>& p) {
  const int64_t size = p.s.m * p.s.n;
  Results<double, double> r{unwritten<double>(size), unwritten<double>(p.parts & PreGelu ? size : 0),
                            unwritten<double>(p.parts & SumA ? p.s.m : 0)};
  GemmEpilogue<double> e = p.epilogue(r.pre_gelu.data());
  if (p.parts & SumA) e.sum_a = r.sum_a.data();
  gemm(cpu, p.s, r.c.data(), p.a.data(), p.b.data(), e);
  return r;
}

template <class T, class Out>
bool same_bits(const Results<T, Out>& x, const Results<T, Out>& y) {
  const auto same = [](const auto& u, const auto& v) {
    return u.size() == v.size() &&
           (u.empty() || std::memcmp(u.data(), v.data(), u.size() * sizeof(u[0])) == 0);
  };
  return same(x.c, y.c) && same(x.pre_gelu, y.pre_gelu) && same(x.sum_a, y.sum_a);
}

template <class T, class Out>
void compare_with_plain(GemmShape s, int parts, size_t shift = 0) {
  CAPTURE(name_of(dtype_of<T>));
  CAPTURE(name_of(dtype_of<Out>));
  CAPTURE(s.m);
  CAPTURE(s.n);
  CAPTURE(s.k);
  CAPTURE(s.trans_a);
  CAPTURE(s.trans_b);
  CAPTURE(parts);
  CAPTURE(shift);
  const Problem<T> p(s, parts);
  const Results<double, double> expected = plain(Problem<double>(p));
  const Results<T, Out> found = on_cuda<T, Out>(p, shift);
  CHECK(within<Out>(converted<double>(found.c), expected.c, s.k));
  CHECK(within<T>(converted<double>(found.pre_gelu), expected.pre_gelu, s.k));
  CHECK(within<acc<T>>(converted<double>(found.sum_a), expected.sum_a, s.k));
}

void compare_all_types(GemmShape s, int parts, size_t shift = 0) {
  compare_with_plain<float, float>(s, parts, shift);
  compare_with_plain<bf16, bf16>(s, parts, shift);
  compare_with_plain<bf16, float>(s, parts, shift);
}

TEST_CASE("gemm on CUDA equals the plain functions in double, in every size and layout") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const int64_t sizes[][3] = {{1, 1, 1},  {1, 1, 0},   {0, 3, 2},    {3, 0, 2},    {7, 13, 5},
                              {8, 24, 8}, {64, 1, 31}, {1, 197, 64}, {67, 72, 40}, {131, 136, 104}};
  for (const auto& [m, n, k] : sizes)
    for (bool trans_a : {false, true})
      for (bool trans_b : {false, true}) compare_all_types({m, n, k, trans_a, trans_b}, trans_a ? SumA : 0);
  compare_all_types({197, 32, 197, false, true}, 0);
}

TEST_CASE("gemm on CUDA: large products, whose tiles are large too") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const int64_t m = 132 * 128 - 5;  // a tile for every SM of the GPU that cuts are made for
  compare_with_plain<bf16, bf16>({m, 24, 72, false, true}, Bias | Gelu | PreGelu);
  compare_with_plain<bf16, bf16>({m, 24, 136, false, false}, GeluGrad);
  compare_with_plain<bf16, float>({m - 3, 24, 40, true, false}, SumA);
  compare_with_plain<float, float>({m, 20, 68, false, true}, Bias | Residual);
  compare_with_plain<float, float>({m, 20, 100, false, false}, GeluGrad);
  compare_with_plain<float, float>({m - 3, 20, 36, true, false}, SumA);
}

TEST_CASE("gemm on CUDA: weight gradients are added up from parts of k") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  compare_all_types({72, 40, 1031, true, false}, SumA);
  compare_all_types({13, 37, 1031, true, false}, SumA);
  compare_all_types({72, 40, 800, true, false}, AllParts - 1);
  compare_all_types({24, 0, 600, true, false}, SumA);
  compare_with_plain<bf16, float>({16, 24, 132 * 256 + 8, true, false}, SumA);
}

TEST_CASE("gemm on CUDA equals the plain functions in every epilogue") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (int parts = 0; parts < AllParts; ++parts) {
    compare_all_types({17, 45, 23, false, true}, parts);
    compare_all_types({9, 72, 40}, parts);
  }
  compare_all_types({17, 64, 48, true, false}, AllParts - 1 + SumA);
}

TEST_CASE("gemm on CUDA serves matrices off their alignment") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (bool trans_a : {false, true})
    for (bool trans_b : {false, true})
      compare_all_types({24, 40, 48, trans_a, trans_b}, AllParts - 1 + (trans_a ? SumA : 0), 1);
}

template <class T, class Out>
void check_bits(GemmShape s, int parts) {
  const Problem<T> p(s, parts);
  const Results<T, Out> first = on_cuda<T, Out>(p);
  for (uint64_t seed = 2; seed <= 5; ++seed) {
#ifdef QFM_CUDA_HOST
    host_cuda::set_seed(seed);
#endif
    CHECK(same_bits(first, on_cuda<T, Out>(p)));
  }
#ifdef QFM_CUDA_HOST
  host_cuda::set_seed(1);
#endif
}

TEST_CASE("gemm on CUDA gives the same bits every time") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  check_bits<float, float>({150, 72, 136, false, true}, Bias | Gelu | PreGelu);
  check_bits<float, float>({40, 28, 600, true, false}, SumA);
  check_bits<bf16, bf16>({150, 72, 136}, GeluGrad | Residual);
  check_bits<bf16, float>({37, 29, 600, true, false}, SumA);
}

template <class T>
void check_rows(int64_t tokens, int64_t n, int64_t k) {
  const int64_t batch = 2;
  const Problem<T> whole({batch * tokens, n, k, false, true}, Bias | Residual);
  const auto all = on_cuda<T, T>(whole).c;
  for (int64_t rows : {tokens, int64_t{1}}) {
    Problem<T> part = whole;
    part.s.m = rows;
    part.a.erase(part.a.begin(), part.a.end() - rows * k);
    part.residual.erase(part.residual.begin(), part.residual.end() - rows * n);
    const auto alone = on_cuda<T, T>(part).c;
    CHECK(std::memcmp(alone.data(), &all[(batch * tokens - rows) * n], alone.size() * sizeof(T)) == 0);
  }
}

TEST_CASE("gemm on CUDA: an image has the same bits alone and in a batch") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  check_rows<float>(197, 45, 64);
  check_rows<bf16>(197, 48, 72);
  check_rows<bf16>(132 * 64, 24, 40);  // large tiles in the batch, small ones alone
}

TEST_CASE("gemm on CUDA: in F32 every sum is one chain of fused multiply-adds") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  for (const GemmShape& s : {GemmShape{67, 72, 108, false, true}, {5, 13, 107}, {40, 36, 200, true, false}}) {
    const Problem<float> p(s, 0);
    std::vector<float> expected;
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t j = 0; j < s.n; ++j) {
        float sum = 0;
        for (int64_t q = 0; q < s.k; ++q)
          sum = std::fma(p.a[s.trans_a ? q * s.m + i : i * s.k + q],
                         p.b[s.trans_b ? j * s.k + q : q * s.n + j], sum);
        expected.push_back(sum);
      }
    CHECK(on_cuda<float, float>(p).c == expected);
  }
}

TEST_CASE("gemm on CUDA: what the contract does not cover is refused") {
  float x = 0;
  CHECK_THROWS_AS(gemm_own<float>(Cuda{}, {-1, 1, 1}, &x, &x, &x), Error);
  GemmEpilogue<float> e;
  e.sum_a = &x;
  CHECK_THROWS_AS(gemm_own(Cuda{}, {1, 1, 1}, &x, &x, &x, e), Error);
}

}  // namespace
}  // namespace qfm::test
