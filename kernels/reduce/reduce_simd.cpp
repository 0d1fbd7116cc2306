#include "kernels/common/simd.h"

namespace qfm::QFM_ISA {

template <class T, class Part>
vf product(const T* x, const T* factor, int64_t j, Part part) {
  return factor ? load(x + j, part) * load(factor + j, part) : load(x + j, part);
}

// Adds to y.
template <class T>
void sum_rows(float* y, const T* x, const T* factor, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i)
    for_vectors(cols, [&](int64_t j, auto part) {
      store(y + j, load(y + j, part) + product(x, factor, i * cols + j, part), part);
    });
}

// Runs of kRun elements in float, their sums in double.
template <class T>
double sum_row(const T* x, const T* factor, int64_t n) {
  constexpr int64_t kRun = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kRun) {
    vf sum = zero();
    for_vectors(n - begin < kRun ? n - begin : kRun,
                [&](int64_t i, auto part) { sum = sum + kept(product(x, factor, begin + i, part), part); });
    total += static_cast<double>(reduce_add(sum));
  }
  return total;
}

// y = the larger of y and the rows' elements.
template <class T>
void max_rows(float* y, const T* x, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i, x += cols)
    for_vectors(cols, [&](int64_t j, auto part) {
      store(y + j, max_or_nan(load(y + j, part), load(x + j, part)), part);
    });
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

#define QFM_INSTANTIATE(T)                                              \
  template void sum_rows(float*, const T*, const T*, int64_t, int64_t); \
  template double sum_row(const T*, const T*, int64_t);                 \
  template void max_rows(float*, const T*, int64_t, int64_t);           \
  template double sum_squares(const T*, int64_t);
QFM_INSTANTIATE(float)
QFM_INSTANTIATE(bf16)
#undef QFM_INSTANTIATE

}  // namespace qfm::QFM_ISA
