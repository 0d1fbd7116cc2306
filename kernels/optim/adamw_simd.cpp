#include "kernels/common/simd.h"
#include "kernels/optim/adamw_scalars.h"

namespace qfm::QFM_ISA {

template <class T>
void adamw(const AdamWScalars<float>& s, float* master, T* copy, float* m, float* v, const float* gradient,
           int64_t n) {
  const vf keep = broadcast(s.keep), clip = broadcast(s.clip), rate1 = broadcast(s.rate1);
  const vf beta2 = broadcast(s.beta2), rate2 = broadcast(s.rate2), step = broadcast(s.step);
  const vf root = broadcast(s.root), eps = broadcast(s.eps);
  for_vectors(n, [&](int64_t i, auto part) {
    const vf g = clip * load(gradient + i, part), m_old = load(m + i, part);
    const vf m_new = fma(rate1, g - m_old, m_old);
    const vf v_new = fma(rate2 * g, g, beta2 * load(v + i, part));
    const vf p = fnma(step, m_new / (sqrt(v_new) / root + eps), keep * load(master + i, part));
    store(m + i, m_new, part);
    store(v + i, v_new, part);
    store(master + i, p, part);
    if (copy) store(copy + i, p, part);
  });
}

template void adamw(const AdamWScalars<float>&, float*, float*, float*, float*, const float*, int64_t);
template void adamw(const AdamWScalars<float>&, float*, bf16*, float*, float*, const float*, int64_t);

}  // namespace qfm::QFM_ISA
