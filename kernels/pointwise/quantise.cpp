#include "kernels/pointwise/quantise.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/common/parallel_loops.h"

QFM_DECLARE_ISA(template <class T> void quantise_tokens(uint8_t* q, const T* x, int64_t rows, int64_t cols);)

namespace qfm {
namespace plain {
namespace {

template <class T>
void quantise_tokens(uint8_t* q, const T* x, int64_t rows, int64_t cols) {
  const int64_t words = int8_words_bytes(cols);
  for (int64_t i = 0; i < rows; ++i, x += cols, q += int8_row_bytes(cols)) {
    float top = 0;
    for (int64_t j = 0; j < cols; ++j) top = std::isfinite(top) && !(std::fabs(x[j]) <= top) ? std::fabs(x[j]) : top;
    const bool finite = std::isfinite(top), zeros = !finite || top < kLeastQuantised;
    const float scale = !finite ? std::numeric_limits<float>::quiet_NaN() : zeros ? 0.0f : top / 127.0f;
    const float inverse = 127.0f / top;
    for (int64_t j = 0; j < words; ++j)
      q[j] = static_cast<uint8_t>(128 + (zeros || j >= cols ? 0 : std::lrint(x[j] * inverse)));
    std::memcpy(q + words, &scale, sizeof scale);
  }
}

}  // namespace
}  // namespace plain

void quantise_tokens(Cpu, uint8_t* q, const float* x, int64_t rows, int64_t cols) {
  const auto run = QFM_BEST_ISA(quantise_tokens, float);
  for_rows(rows, cols, [&](int64_t begin, int64_t end) {
    run(q + begin * int8_row_bytes(cols), x + begin * cols, end - begin, cols);
  });
}

}  // namespace qfm
