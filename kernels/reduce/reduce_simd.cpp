#include "kernels/common/simd.h"

namespace qfm::QFM_ISA {

template <class T>
void sum_rows(float* y, const T* x, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i, x += cols)
    for_vectors(cols,
                [&](int64_t j, auto part) { store(y + j, load(y + j, part) + load(x + j, part), part); });
}

template <class T>
double sum_squares(const T* x, int64_t n) {
  double sums[vf::width] = {};
  for_vectors(n, [&](int64_t i, auto part) {
    float values[vf::width];
    store(values, load(x + i, part));
    for (int k = 0; k < vf::width; ++k) {
      const double value = static_cast<double>(values[k]);
      sums[k] += value * value;
    }
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

#define QFM_INSTANTIATE(T)                                    \
  template void sum_rows(float*, const T*, int64_t, int64_t); \
  template double sum_squares(const T*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
