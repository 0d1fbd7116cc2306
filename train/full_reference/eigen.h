// Eigenvalues of small symmetric matrices, by Jacobi's rotations.
#pragma once
#include <array>
#include <cmath>
#include <cstddef>

namespace qfm {

template <size_t n>
using SymmetricMatrix = std::array<std::array<double, n>, n>;

template <size_t n>
struct Eigen {
  std::array<double, n> values;
  SymmetricMatrix<n> vectors;  // one a column
};

template <size_t n>
Eigen<n> eigen(SymmetricMatrix<n> a) {
  Eigen<n> result{};
  auto& v = result.vectors;
  for (size_t i = 0; i < n; ++i) v[i][i] = 1;
  const auto converged = [&] {
    double off = 0, on = 0;
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) (i == j ? on : off) += a[i][j] * a[i][j];
    return off <= 1e-32 * on;
  };
  for (int sweep = 0; sweep < 30 && !converged(); ++sweep)
    for (size_t p = 0; p < n; ++p)
      for (size_t q = p + 1; q < n; ++q) {
        if (a[p][q] == 0) continue;
        const double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        const double t = std::copysign(1 / (std::abs(theta) + std::hypot(1, theta)), theta);
        const double c = 1 / std::hypot(1, t), s = t * c;
        const auto rotate = [&](double& x, double& y) {
          const double before = x;
          x = c * before - s * y, y = s * before + c * y;
        };
        for (size_t k = 0; k < n; ++k) rotate(a[k][p], a[k][q]);
        for (size_t k = 0; k < n; ++k) rotate(a[p][k], a[q][k]), rotate(v[k][p], v[k][q]);
      }
  for (size_t i = 0; i < n; ++i) result.values[i] = a[i][i];
  return result;
}

}  // namespace qfm
