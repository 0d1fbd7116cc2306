#include "kernels/common/simd.h"
#include "kernels/pointwise/functions.h"

namespace qfm::QFM_ISA {

// Where an input is repeated along the row its one number fills the vector.
template <class F, class T, class Inputs>
void map_row(F f, int64_t n, T* y, Inputs x, const int64_t* step) {
  vf one[Inputs::count];
  for (int k = 0; k < Inputs::count; ++k) one[k] = broadcast(reduce_add(load(x.at[k], 1)));
  for_vectors(n, [&](int64_t i, auto part) {
    const auto value = [&](int k) { return step[k] ? load(x.at[k] + i, part) : one[k]; };
    if constexpr (Inputs::count == 1) store(y + i, f(value(0)), part);
    else store(y + i, f(value(0), value(1)), part);
  });
}

template <class To, class From>
void cast(To* dst, const From* src, int64_t n) {
  for_vectors(n, [&](int64_t i, auto part) { store(dst + i, load(src + i, part), part); });
}

#define QFM_MAP_TYPE(F, inputs, T) template void map_row(fn::F, int64_t, T*, MapInputs<T, inputs>, const int64_t*);
#define QFM_MAP_ONE(F, inputs) QFM_MAP_TYPE(F, inputs, float) QFM_MAP_TYPE(F, inputs, bf16)
QFM_MAP_FUNCTIONS
#undef QFM_MAP_ONE
#undef QFM_MAP_TYPE

#define QFM_INSTANTIATE(T)                       \
  template void cast(T*, const float*, int64_t); \
  template void cast(T*, const bf16*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
