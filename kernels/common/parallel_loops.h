// How a CPU kernel runs: in ranges fixed by the shapes, on all threads, by the code of the current path.
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "engine/base/cpu.h"
#include "engine/base/dtype.h"
#include "engine/base/threads.h"
#include "engine/memory/memory.h"
#include "kernels/common/reduce_rows.h"

namespace qfm {

// f(begin, end) for consecutive ranges of `size` that make up [0, n).
template <class F>
void for_ranges(int64_t n, int64_t size, F&& f) {
  parallel_for((n + size - 1) / size, [&](int64_t i) { f(i * size, std::min(n, (i + 1) * size)); });
}

inline constexpr int64_t kRangeElements = 16384;
template <class F>
void for_elements(int64_t n, F&& f) {
  for_ranges(n, kRangeElements, f);
}
// Whole rows, about kRangeElements elements in a range.
template <class F>
void for_rows(int64_t rows, int64_t cols, F&& f) {
  for_ranges(rows, std::max<int64_t>(1, kRangeElements / std::max<int64_t>(1, cols)), f);
}

constexpr int64_t reduce_chunks(int64_t rows) { return (rows + kReduceRows - 1) / kReduceRows; }

// f(slot, begin, end) adds the rows [begin, end) to its own zeroed slot of `width` values.
template <class A, class F>
void partial_sums(A* slots, int64_t width, int64_t rows, F&& f) {
  for_ranges(rows, kReduceRows, [&](int64_t begin, int64_t end) {
    A* slot = slots + begin / kReduceRows * width;
    std::fill(slot, slot + width, A{0});
    f(slot, begin, end);
  });
}
// y[j] = slots[0][j] + slots[1][j] + ... for `cols` values of each slot.
template <class A>
void add_slots(A* y, const A* slots, int64_t count, int64_t width, int64_t cols) {
  for_ranges(cols, 64, [&](int64_t begin, int64_t end) {
    std::fill(y + begin, y + end, A{0});
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = begin; j < end; ++j) y[j] += slots[i * width + j];
  });
}

// The sum over [0, n) of f(begin, end), in double, ranges added in order.
template <class F>
double sum_ranges(int64_t n, F&& f) {
  const int64_t count = (n + kRangeElements - 1) / kRangeElements;
  Scratch scratch(count * sizeof(double));
  double* parts = scratch.as<double>();
  for_elements(n, [&](int64_t begin, int64_t end) { parts[begin / kRangeElements] = f(begin, end); });
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += parts[i];
  return sum;
}

// One value in another type.
template <class To, class From>
To to(From x) {
  if constexpr (std::is_same_v<From, bf16>) return To(static_cast<float>(x));
  else if constexpr (std::is_same_v<To, bf16>) return bf16(static_cast<float>(x));
  else return static_cast<To>(x);
}

template <class... T>
constexpr bool any_double = (std::is_same_v<T, double> || ...);
template <class... T>
constexpr bool any_bf16 = (std::is_same_v<T, bf16> || ...);

}  // namespace qfm

// Declares functions of X_simd.cpp, once for each instruction set it is compiled for.
#define QFM_DECLARE_ISA(...) \
  namespace qfm::avx2 {      \
  __VA_ARGS__                \
  }                          \
  namespace qfm::avx512 {    \
  __VA_ARGS__                \
  }

// f<...> as the current path has it: of namespace avx512, avx2 or plain. double, the type of gradient checks,
// is only plain.
#define QFM_BEST_ISA(f, ...)                                            \
  [] {                                                                  \
    if constexpr (has_vector_code && !qfm::any_double<__VA_ARGS__>) {   \
      if (cpu_path() == CpuIsa::Avx512) return &avx512::f<__VA_ARGS__>; \
      if (cpu_path() == CpuIsa::Avx2) return &avx2::f<__VA_ARGS__>;     \
    }                                                                   \
    return &plain::f<__VA_ARGS__>;                                      \
  }()

// The same where bf16 has code of its own for processors that multiply pairs of it, in namespace avx512bf16.
#define QFM_BEST_DOT(f, ...)                                                    \
  [] {                                                                          \
    if constexpr (has_vector_code && qfm::any_bf16<__VA_ARGS__>)                \
      if (cpu_dot() == CpuDot::Bf16) return &avx512bf16::f<__VA_ARGS__>;        \
    return QFM_BEST_ISA(f, __VA_ARGS__);                                        \
  }()
