#include "kernels/common/simd_bytes.h"
#include "kernels/pointwise/quantise.h"

namespace qfm::QFM_ISA {

template <class T>
void quantise_tokens(uint8_t* q, const T* x, int64_t rows, int64_t cols) {
  const int64_t words = int8_words_bytes(cols);
  for (int64_t i = 0; i < rows; ++i, x += cols, q += int8_row_bytes(cols)) {
    const float scale = quantise_row(q, x, cols, words, kLeastQuantised);
    std::memcpy(q + words, &scale, sizeof scale);
  }
}

template void quantise_tokens(uint8_t*, const float*, int64_t, int64_t);

}  // namespace qfm::QFM_ISA
