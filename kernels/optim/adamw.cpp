#include "kernels/optim/adamw.h"

#include <cmath>

#include "kernels/common/parallel_loops.h"

QFM_DECLARE_ISA(template <class T> void adamw(const AdamWScalars<float>& s, float* master, T* copy, float* m,
                                              float* v, const float* gradient, int64_t n);)

namespace qfm {
namespace plain {
namespace {

template <class T>
void adamw(const AdamWScalars<acc<T>>& s, acc<T>* master, T* copy, acc<T>* m, acc<T>* v,
           const acc<T>* gradient, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const acc<T> g = s.clip * gradient[i];
    m[i] += s.rate1 * (g - m[i]);
    v[i] = s.beta2 * v[i] + s.rate2 * g * g;
    master[i] = s.keep * master[i] - s.step * (m[i] / (std::sqrt(v[i]) / s.root + s.eps));
    if (copy) copy[i] = T(master[i]);
  }
}

}  // namespace
}  // namespace plain

template <class T>
void adamw(Cpu, const AdamWScalars<acc<T>>& factors, acc<T>* master, T* copy, acc<T>* m, acc<T>* v,
           const acc<T>* gradient, int64_t n) {
  const auto run = QFM_BEST_ISA(adamw, T);
  for_elements(n, [&](int64_t begin, int64_t end) {
    run(factors, master + begin, copy ? copy + begin : nullptr, m + begin, v + begin, gradient + begin,
        end - begin);
  });
}

template <class T>
void moving_average(Cpu, T* average, const T* master, double decay, int64_t n) {
  const T keep = static_cast<T>(decay), take = static_cast<T>(1 - decay);
  for_elements(n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) average[i] = keep * average[i] + take * master[i];
  });
}
template void moving_average(Cpu, float*, const float*, double, int64_t);
template void moving_average(Cpu, double*, const double*, double, int64_t);

#define QFM_INSTANTIATE(T)                                                                            \
  template void adamw(Cpu, const AdamWScalars<acc<T>>&, acc<T>*, T*, acc<T>*, acc<T>*, const acc<T>*, \
                      int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
