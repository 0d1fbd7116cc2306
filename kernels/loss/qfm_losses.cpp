#include "kernels/loss/qfm_losses.h"

#include <cmath>

#include "kernels/common/parallel_loops.h"
#include "kernels/loss/loss_point.h"

namespace qfm {
namespace {

template <class T>
double dot(const T* a, const T* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += to<double>(a[i]) * to<double>(b[i]);
  return sum;
}

}  // namespace

template <class T>
void weighted_smooth_l1(Cpu, acc<T>* loss, T* grad, const T* prediction, const T* target,
                        const acc<T>* weight, double beta, int64_t n) {
  const SmoothL1Point point{beta};
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double w = to<double>(weight[i]);
    double slope;
    const double value = point(to<double>(prediction[i]) - to<double>(target[i]), slope);
    grad[i] = to<T>(w == 0 ? 0.0 : w * slope);
    if (w != 0) sum += w * value;
  }
  *loss = static_cast<acc<T>>(sum);
}

template <class T>
void cosine_distance(Cpu, acc<T>* loss, T* grad, const T* a, const T* c, const acc<T>* weight, int64_t batch,
                     int64_t rows, int64_t cols, double eps) {
  const auto share = [=](int64_t b) { return to<double>(weight[b]) / static_cast<double>(rows); };
  double sum = 0;
  for (int64_t b = 0; b < batch; ++b) {
    if (weight[b] == 0) {
      std::fill_n(grad + b * rows * cols, rows * cols, T(0.0f));
      continue;
    }
    for (int64_t r = b * rows; r < (b + 1) * rows; ++r) {
      const T *p = a + r * cols, *q = c + r * cols;
      const double size = std::sqrt(dot(p, p, cols));
      const double np = std::max(size, eps), nq = std::max(std::sqrt(dot(q, q, cols)), eps);
      const double cosine = dot(p, q, cols) / (np * nq), along = size < eps ? 0 : cosine;
      sum += share(b) * (1 - cosine);
      for (int64_t j = 0; j < cols; ++j)
        grad[r * cols + j] = to<T>(-share(b) * (to<double>(q[j]) / nq - along * to<double>(p[j]) / np) / np);
    }
  }
  *loss = static_cast<acc<T>>(sum);
}

template <class T>
void selection_loss(Cpu, acc<T>* loss, T* dg, const T* g, const acc<T>* v, int64_t batch, int64_t dim) {
  double total = 0, sum = 0;
  for (int64_t d = 0; d < dim; ++d) total += to<double>(v[d]);
  const double share = total == 0 ? 0 : 1 / (static_cast<double>(batch) * total);
  for (int64_t i = 0; i < batch; ++i) {
    const T* row = g + i * dim;
    double mean = 0, moved = 0;  // moved = sum_d h_d^2 v_d
    for (int64_t d = 0; d < dim; ++d) mean += to<double>(row[d]) / static_cast<double>(dim);
    for (int64_t d = 0; d < dim; ++d)
      moved += to<double>(row[d]) * to<double>(row[d]) * to<double>(v[d]) / (mean * mean);
    for (int64_t d = 0; d < dim; ++d)
      dg[i * dim + d] =
          to<T>(2 * share / mean *
                (to<double>(row[d]) / mean * to<double>(v[d]) - moved / static_cast<double>(dim)));
    sum += share * moved;
  }
  *loss = static_cast<acc<T>>(sum);
}

template <class T>
void similarity_cross_entropy(Cpu, acc<T>* loss, T* du, acc<T>* workspace, const T* u, const acc<T>* target,
                              double temperature, int64_t n, int64_t dim) {
  using A = acc<T>;
  A *G = workspace, *losses = workspace + n * n;
  parallel_for(n, [=](int64_t i) {
    A* row = G + i * n;
    const A* wanted = target + i * n;
    double largest = -INFINITY, sum = 0, weight = 0, part = 0;
    for (int64_t j = 0; j < n; ++j) {
      row[j] = static_cast<A>(dot(u + i * dim, u + j * dim, dim) / temperature);
      if (j != i) largest = std::max(largest, to<double>(row[j]));
    }
    for (int64_t j = 0; j < n; ++j)
      if (j != i) sum += std::exp(to<double>(row[j]) - largest), weight += to<double>(wanted[j]);
    for (int64_t j = 0; j < n; ++j) {
      const double log_p = to<double>(row[j]) - largest - std::log(sum);
      if (j != i) part -= to<double>(wanted[j]) * log_p;
      row[j] = j == i ? A(0) : static_cast<A>(weight * std::exp(log_p) - to<double>(wanted[j]));
    }
    losses[i] = static_cast<A>(part);
  });
  parallel_for(n, [=](int64_t i) {
    for (int64_t d = 0; d < dim; ++d) {
      double sum = 0;
      for (int64_t j = 0; j < n; ++j)
        sum += (to<double>(G[i * n + j]) + to<double>(G[j * n + i])) * to<double>(u[j * dim + d]);
      du[i * dim + d] = to<T>(sum / temperature);
    }
  });
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += to<double>(losses[i]);
  *loss = static_cast<A>(sum);
}

#define QFM_INSTANTIATE(T)                                                                                \
  template void weighted_smooth_l1(Cpu, acc<T>*, T*, const T*, const T*, const acc<T>*, double, int64_t); \
  template void cosine_distance(Cpu, acc<T>*, T*, const T*, const T*, const acc<T>*, int64_t, int64_t,    \
                                int64_t, double);                                                         \
  template void selection_loss(Cpu, acc<T>*, T*, const T*, const acc<T>*, int64_t, int64_t);              \
  template void similarity_cross_entropy(Cpu, acc<T>*, T*, acc<T>*, const T*, const acc<T>*, double,      \
                                         int64_t, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
