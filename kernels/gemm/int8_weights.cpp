#include "kernels/gemm/int8_weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include "kernels/common/parallel_loops.h"

namespace qfm {
namespace {

constexpr float kLargest = 127, kLeastScale = std::numeric_limits<float>::min(),
                kMostScale = std::numeric_limits<float>::max() / kLargest;
constexpr uint32_t kInfinity = 0x7f800000;

uint32_t bits_of(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  return bits;
}
float from_bits(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

float leading_bits(float f) { return from_bits(bits_of(f) & 0xffffff00); }

// To nearest even, of |x| < 2^22: in a sum of this size there is no room for digits after the point.
float rounded(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

}  // namespace

bool quantise_rows(int8_t* q, float* scale, const float* w, int64_t rows, int64_t cols) {
  std::atomic<bool> finite = true;
  for_rows(rows, cols, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* from = w + i * cols;
      uint32_t most = 0;  // magnitudes are ordered as their bits are, infinity and NaN last
      for (int64_t j = 0; j < cols; ++j) most = std::max(most, bits_of(from[j]) & 0x7fffffff);
      if (most >= kInfinity) finite = false;
      const float s = leading_bits(from_bits(most) / kLargest);
      const bool zeros = most >= kInfinity || s < kLeastScale;
      scale[i] = zeros ? 1 : s;
      int8_t* to = q + i * cols;
      if (zeros) std::fill_n(to, cols, int8_t{0});
      else
        for (int64_t j = 0; j < cols; ++j) to[j] = static_cast<int8_t>(static_cast<int32_t>(rounded(from[j] / s)));
    }
  });
  return finite;
}

void dequantise_rows(float* w, const int8_t* q, const float* scale, int64_t rows, int64_t cols) {
  for_rows(rows, cols, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = i * cols; j < (i + 1) * cols; ++j) w[j] = static_cast<float>(q[j]) * scale[i];
  });
}

bool is_int8_scale(float scale) {
  return scale >= kLeastScale && scale <= kMostScale && scale == leading_bits(scale);
}

}  // namespace qfm
