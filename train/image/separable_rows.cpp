#include "train/image/separable_rows.h"

#include <cstring>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifndef QFM_ISA
#define QFM_ISA plain
#endif

namespace qfm::QFM_ISA {
namespace {

constexpr int lanes = 8, vectors = separable_group / lanes;

// Eight numbers at a time; GCC makes of these what the processor has.
typedef int32_t Ints __attribute__((vector_size(32)));

inline void add_products(Ints& sum, const uint8_t* pixels, const Ints& weights) {
  Ints values;
#ifdef __AVX2__  // GCC 12 would widen the bytes one by one
  values =
      reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(pixels))));
#else
  typedef uint8_t Bytes __attribute__((vector_size(lanes)));
  Bytes bytes;
  std::memcpy(&bytes, pixels, sizeof bytes);
  values = __builtin_convertvector(bytes, Ints);
#endif
  sum += values * weights;
}

inline uint8_t to_byte(int32_t sum) {
  const int32_t v = (sum + (1 << (separable_fraction_bits - 1))) >> separable_fraction_bits;
  return static_cast<uint8_t>(v < 0 ? 0 : v > 255 ? 255 : v);
}

}  // namespace

void horizontal_row(uint8_t* out, const uint8_t* in, const WideTaps& taps) {
  const int32_t* weights = taps.weights;
  for (int i = 0; i < taps.outputs; ++i) {
    const uint8_t* from = in + ptrdiff_t{3} * taps.first[i];
    Ints sums[vectors] = {};
    for (int g = 0; g < taps.groups; ++g, from += separable_group, weights += separable_group)
      for (int v = 0; v < vectors; ++v) {
        Ints w;
        std::memcpy(&w, weights + v * lanes, sizeof w);
        add_products(sums[v], from + v * lanes, w);
      }
    int32_t flat[separable_group], channels[3] = {};  // lane k belongs to channel k % 3
    std::memcpy(flat, sums, sizeof flat);
    for (int k = 0; k < separable_group; ++k) channels[k % 3] += flat[k];
    for (int c = 0; c < 3; ++c) *out++ = to_byte(channels[c]);
  }
}

void vertical_row(uint8_t* out, const uint8_t* in, size_t bytes, const int32_t* weights, int count) {
  constexpr size_t block = 4 * lanes;
  size_t x = 0;
  for (; x + block <= bytes; x += block) {
    Ints sums[4] = {};
    const uint8_t* from = in + x;
    for (int k = 0; k < count; ++k, from += bytes) {
      const Ints w = weights[k] - Ints{};
      for (int v = 0; v < 4; ++v) add_products(sums[v], from + v * lanes, w);
    }
    int32_t flat[block];
    std::memcpy(flat, sums, sizeof flat);
    for (size_t i = 0; i < block; ++i) out[x + i] = to_byte(flat[i]);
  }
  for (; x < bytes; ++x) {
    int32_t sum = 0;
    for (int k = 0; k < count; ++k) sum += weights[k] * in[x + static_cast<size_t>(k) * bytes];
    out[x] = to_byte(sum);
  }
}

}  // namespace qfm::QFM_ISA
