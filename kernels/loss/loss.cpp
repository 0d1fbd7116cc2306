#include "kernels/loss/loss.h"

#include "kernels/common/parallel_loops.h"
#include "kernels/loss/loss_point.h"

namespace qfm {
namespace {

// point(d, slope) is one element's loss and writes its derivative; both then get divided by n.
template <class T, class F>
void mean_loss(acc<T>* loss, T* grad, const T* prediction, const T* target, int64_t n, F&& point) {
  const double scale = 1.0 / static_cast<double>(std::max<int64_t>(1, n));
  const double sum = sum_ranges(n, [&](int64_t begin, int64_t end) {
    double part = 0;
    for (int64_t i = begin; i < end; ++i) {
      double slope;
      part += point(to<double>(prediction[i]) - to<double>(target[i]), slope);
      grad[i] = to<T>(slope * scale);
    }
    return part;
  });
  *loss = static_cast<acc<T>>(sum * scale);
}

}  // namespace

template <class T>
void smooth_l1(Cpu, acc<T>* loss, T* grad, const T* prediction, const T* target, double beta, int64_t n) {
  mean_loss(loss, grad, prediction, target, n, SmoothL1Point{beta});
}

template <class T>
void mse(Cpu, acc<T>* loss, T* grad, const T* prediction, const T* target, int64_t n) {
  mean_loss(loss, grad, prediction, target, n, MsePoint{});
}

#define QFM_INSTANTIATE(T)                                                        \
  template void smooth_l1(Cpu, acc<T>*, T*, const T*, const T*, double, int64_t); \
  template void mse(Cpu, acc<T>*, T*, const T*, const T*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
