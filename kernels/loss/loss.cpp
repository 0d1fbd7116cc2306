#include "kernels/loss/loss.h"

#include "kernels/common/parallel_loops.h"
#include "kernels/loss/loss_point.h"

namespace qfm {

template <class T>
void smooth_l1(Cpu, acc<T>* loss, T* grad, const T* prediction, const T* target, double beta, int64_t n) {
  const SmoothL1Point point{beta};
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

template void smooth_l1(Cpu, float*, float*, const float*, const float*, double, int64_t);
template void smooth_l1(Cpu, float*, bf16*, const bf16*, const bf16*, double, int64_t);
template void smooth_l1(Cpu, double*, double*, const double*, const double*, double, int64_t);

}  // namespace qfm
