// When two computations of the same result count as equal: one rule for the whole project.
//
//   |found - expected| <= c * eps(dtype) * sqrt(length) * scale
// for every element of a tensor: length = terms in the longest sum behind an element (rounding errors of a
// sum grow like its root), scale = the largest magnitude in the expected tensor (cancellation leaves errors
// of that size), c one constant a dtype. At its end a test binary prints the worst share of the bound that it
// has seen.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "engine/base/dtype.h"

namespace qfm::test {

constexpr double epsilon(DType t) { return t == DType::BF16 ? 0x1p-7 : t == DType::F64 ? 0x1p-52 : 0x1p-23; }
constexpr double tolerance_factor(DType t) { return t == DType::BF16 ? 2 : 4; }

// The largest magnitude.
inline double largest(std::span<const double> values) {
  double m = 0;
  for (double v : values) m = std::max(m, std::fabs(v));
  return m;
}

struct WorstRatios {
  double of[3] = {0, 0, 0};  // F32, BF16, F64
  ~WorstRatios() {
    for (DType t : {DType::F32, DType::BF16, DType::F64})
      if (const double r = of[static_cast<int>(t)]; r > 0)
        std::printf("worst error, as a share of the tolerance, in %s: %.3f\n", name_of(t), r);
  }
};
inline WorstRatios worst_ratios;

// The largest error as a share of the bound; infinite where sizes differ or a NaN or infinity does not match.
inline double error_ratio(std::span<const double> found, std::span<const double> expected, DType dtype,
                          int64_t length) {
  const double infinite = std::numeric_limits<double>::infinity();
  if (found.size() != expected.size()) return infinite;
  double error = 0, scale = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::isfinite(expected[i]) && std::isfinite(found[i])) {
      error = std::max(error, std::fabs(found[i] - expected[i]));
      scale = std::max(scale, std::fabs(expected[i]));
    } else if (found[i] != expected[i] && !(std::isnan(found[i]) && std::isnan(expected[i]))) {
      return infinite;
    }
  }
  if (error == 0) return 0;
  const double root = std::sqrt(static_cast<double>(std::max<int64_t>(1, length)));
  return error / (tolerance_factor(dtype) * epsilon(dtype) * root * scale);
}

inline bool within(DType dtype, std::span<const double> found, std::span<const double> expected,
                   int64_t length) {
  const double ratio = error_ratio(found, expected, dtype, length);
  double& worst = worst_ratios.of[static_cast<int>(dtype)];
  worst = std::max(worst, ratio);
  return ratio <= 1;
}
template <class T>
bool within(const std::vector<double>& found, const std::vector<double>& expected, int64_t length) {
  return within(dtype_of<T>, found, expected, length);
}

inline void check_close(const std::string& what, std::span<const double> found,
                        std::span<const double> expected, DType dtype, int64_t length) {
  INFO(what, ": error / tolerance ", error_ratio(found, expected, dtype, length));
  CHECK(within(dtype, found, expected, length));
}

}  // namespace qfm::test
