#include "kernels/gemm/int8_weights.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <limits>

#include "kernels/common/parallel_loops.h"

namespace qfm {
namespace {

constexpr float kLargest = 127, kLeastScale = std::numeric_limits<float>::min(),
                kMostScale = std::numeric_limits<float>::max() / kLargest;
constexpr int32_t kInfinity = 0x7f800000;

float leading_bits(float f) { return std::bit_cast<float>(std::bit_cast<int32_t>(f) & ~0xff); }

// To nearest even, of |x| < 2^22: in a sum of this size there is no room for digits after the point.
float rounded(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

// The largest magnitude, as bits: these are ordered as the numbers are, infinity and NaN last.
int32_t largest(const float* w, int64_t n) {
  int32_t most = 0;
  for (int64_t j = 0; j < n; ++j) most = std::max(most, std::bit_cast<int32_t>(w[j]) & 0x7fffffff);
  return most;
}

void quantise(int8_t* q, const float* w, float scale, int64_t n) {
  for (int64_t j = 0; j < n; ++j) q[j] = static_cast<int8_t>(static_cast<int32_t>(rounded(w[j] / scale)));
}

void dequantise(float* w, const int8_t* q, float scale, int64_t n) {
  for (int64_t j = 0; j < n; ++j) w[j] = static_cast<float>(q[j]) * scale;
}

}  // namespace

bool quantise_rows(int8_t* q, float* scale, const float* w, int64_t rows, int64_t cols) {
  std::atomic<bool> finite = true;
  for_rows(rows, cols, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t most = largest(w + i * cols, cols);
      if (most >= kInfinity) finite = false;
      const float s = leading_bits(std::bit_cast<float>(most) / kLargest);
      const bool zeros = most >= kInfinity || s < kLeastScale;
      scale[i] = zeros ? 1 : s;
      if (zeros) std::fill_n(q + i * cols, cols, int8_t{0});
      else quantise(q + i * cols, w + i * cols, s, cols);
    }
  });
  return finite;
}

void dequantise_rows(float* w, const int8_t* q, const float* scale, int64_t rows, int64_t cols) {
  for_rows(rows, cols, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) dequantise(w + i * cols, q + i * cols, scale[i], cols);
  });
}

bool is_int8_scale(float scale) {
  return scale >= kLeastScale && scale <= kMostScale && scale == leading_bits(scale);
}

}  // namespace qfm
