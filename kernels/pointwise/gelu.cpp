#include "kernels/pointwise/gelu.h"

#include <cmath>
#include <numbers>

#include "kernels/common/parallel_loops.h"

QFM_DECLARE_ISA(template <class T> void gelu_forward(T* y, const T* x, int64_t n);
                template <class T> void gelu_backward(T* dx, const T* dy, const T* x, int64_t n);)

namespace qfm {
namespace {

// The normal distribution function; erfc keeps the digits of its lower tail.
double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double normal_pdf(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi); }

}  // namespace

double gelu(double x) { return x * normal_cdf(x); }
double gelu_grad(double x) { return normal_cdf(x) + x * normal_pdf(x); }

namespace plain {
namespace {

template <class T>
void gelu_forward(T* y, const T* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = to<T>(gelu(to<double>(x[i])));
}

template <class T>
void gelu_backward(T* dx, const T* dy, const T* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dx[i] = to<T>(to<double>(dy[i]) * gelu_grad(to<double>(x[i])));
}

}  // namespace
}  // namespace plain

template <class T>
void gelu_forward(Cpu, T* y, const T* x, int64_t n) {
  const auto run = QFM_BEST_ISA(gelu_forward, T);
  for_elements(n, [&](int64_t begin, int64_t end) { run(y + begin, x + begin, end - begin); });
}

template <class T>
void gelu_backward(Cpu, T* dx, const T* dy, const T* x, int64_t n) {
  const auto run = QFM_BEST_ISA(gelu_backward, T);
  for_elements(n, [&](int64_t begin, int64_t end) { run(dx + begin, dy + begin, x + begin, end - begin); });
}

#define QFM_INSTANTIATE(T)                                \
  template void gelu_forward(Cpu, T*, const T*, int64_t); \
  template void gelu_backward(Cpu, T*, const T*, const T*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
