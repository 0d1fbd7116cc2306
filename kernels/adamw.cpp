#include "kernels/adamw.h"

#include <cmath>

#include "kernels/run.h"

namespace qfm {
namespace plain {
namespace {

template <class T>
void adamw(const AdamW& rule, acc<T>* master, T* copy, acc<T>* m, acc<T>* v, const acc<T>* gradient,
           int64_t n) {
  using A = acc<T>;
  const A keep = A(1 - rule.lr * rule.weight_decay), clip = A(rule.clip), eps = A(rule.eps);
  const A rate1 = A(1 - rule.beta1), beta2 = A(rule.beta2), rate2 = A(1 - rule.beta2);
  const A step = A(rule.lr / (1 - std::pow(rule.beta1, rule.step)));
  const A root = A(std::sqrt(1 - std::pow(rule.beta2, rule.step)));
  for (int64_t i = 0; i < n; ++i) {
    const A g = clip * gradient[i];
    m[i] += rate1 * (g - m[i]);
    v[i] = beta2 * v[i] + rate2 * g * g;
    master[i] = keep * master[i] - step * m[i] / (std::sqrt(v[i]) / root + eps);
    if (copy) copy[i] = T(master[i]);
  }
}

}  // namespace
}  // namespace plain

template <class T>
void adamw(Cpu, AdamW rule, acc<T>* master, T* copy, acc<T>* m, acc<T>* v, const acc<T>* gradient,
           int64_t n) {
  const auto run = &plain::adamw<T>;
  for_elements(n, [&](int64_t begin, int64_t end) {
    run(rule, master + begin, copy ? copy + begin : nullptr, m + begin, v + begin, gradient + begin,
        end - begin);
  });
}

#define QFM_INSTANTIATE(T) \
  template void adamw(Cpu, AdamW, acc<T>*, T*, acc<T>*, acc<T>*, const acc<T>*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
QFM_INSTANTIATE(double)
#undef QFM_INSTANTIATE

}  // namespace qfm
