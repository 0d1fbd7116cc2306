#include "train/separable.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/cpu.h"
#include "engine/base/error.h"
#include "engine/base/memory.h"
#include "engine/base/threads.h"

namespace qfm {
namespace {

constexpr int32_t half = 1 << (Taps::fraction_bits - 1);

uint8_t to_byte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp((sum + half) >> Taps::fraction_bits, 0, 255));
}

// Eight numbers at a time. GCC turns these into the vectors of whatever processor the function is compiled
// for.
typedef int32_t Ints __attribute__((vector_size(32)));
typedef uint8_t Bytes __attribute__((vector_size(8)));
constexpr int lanes = 8;

#define QFM_ALWAYS_INLINE inline __attribute__((always_inline))

QFM_ALWAYS_INLINE void add_products(Ints& sum, const uint8_t* pixels, const Ints& weights) {
  Bytes bytes;
  std::memcpy(&bytes, pixels, sizeof bytes);
  sum += __builtin_convertvector(bytes, Ints) * weights;
}

// The weights of a horizontal pass, each one three times (R, G, B), filled up with zeros to whole groups of
// 24: three vectors, in which lane i always belongs to channel i % 3.
constexpr int group = 3 * lanes;
struct WideTaps {
  int groups;
  std::vector<int32_t> weights;  // (outputs, groups * 24)

  explicit WideTaps(const Taps& taps) : groups((3 * taps.stride + group - 1) / group) {
    const size_t row = static_cast<size_t>(groups) * group;
    weights.resize(row * static_cast<size_t>(taps.outputs()));
    for (size_t i = 0; i < taps.first.size(); ++i)
      for (size_t k = 0; k < 3 * static_cast<size_t>(taps.width[i]); ++k)
        weights[i * row + k] = taps.weights[i * static_cast<size_t>(taps.stride) + k / 3];
  }
};

// One row. `in` may be read up to 24 * groups bytes behind the last pixel.
QFM_ALWAYS_INLINE void horizontal_row(uint8_t* out, const uint8_t* in, const Taps& taps,
                                      const WideTaps& wide) {
  const int32_t* weights = wide.weights.data();
  for (int i = 0; i < taps.outputs(); ++i) {
    const uint8_t* from = in + 3 * taps.first[static_cast<size_t>(i)];
    Ints sums[3] = {};
    for (int g = 0; g < wide.groups; ++g, from += group, weights += group)
      for (int v = 0; v < 3; ++v) {
        Ints w;
        std::memcpy(&w, weights + v * lanes, sizeof w);
        add_products(sums[v], from + v * lanes, w);
      }
    int32_t flat[group], channel[3] = {};
    std::memcpy(flat, sums, sizeof flat);
    for (int k = 0; k < group; ++k) channel[k % 3] += flat[k];
    for (int c = 0; c < 3; ++c) *out++ = to_byte(channel[c]);
  }
}

// Bytes [begin, end) of one output row; `in` is the first input row that counts.
QFM_ALWAYS_INLINE void vertical_row(uint8_t* out, const uint8_t* in, size_t row_bytes, const int32_t* weights,
                                    int count) {
  constexpr size_t block = 4 * lanes;
  size_t x = 0;
  for (; x + block <= row_bytes; x += block) {
    Ints sums[4] = {};
    const uint8_t* from = in + x;
    for (int k = 0; k < count; ++k, from += row_bytes) {
      const Ints w = weights[k] - Ints{};
      for (int v = 0; v < 4; ++v) add_products(sums[v], from + v * lanes, w);
    }
    int32_t flat[block];
    std::memcpy(flat, sums, sizeof flat);
    for (size_t i = 0; i < block; ++i) out[x + i] = to_byte(flat[i]);
  }
  for (; x < row_bytes; ++x) {
    int32_t sum = 0;
    for (int k = 0; k < count; ++k) sum += weights[k] * in[x + static_cast<size_t>(k) * row_bytes];
    out[x] = to_byte(sum);
  }
}

// The same source twice: for any processor, and for those with AVX2. Integers: equal bits.
void horizontal_plain(uint8_t* out, const uint8_t* in, const Taps& t, const WideTaps& w) {
  horizontal_row(out, in, t, w);
}
void vertical_plain(uint8_t* out, const uint8_t* in, size_t n, const int32_t* w, int k) {
  vertical_row(out, in, n, w, k);
}
#ifdef __x86_64__
__attribute__((target("avx2"))) void horizontal_avx2(uint8_t* out, const uint8_t* in, const Taps& t,
                                                     const WideTaps& w) {
  horizontal_row(out, in, t, w);
}
__attribute__((target("avx2"))) void vertical_avx2(uint8_t* out, const uint8_t* in, size_t n,
                                                   const int32_t* w, int k) {
  vertical_row(out, in, n, w, k);
}
#else
constexpr auto horizontal_avx2 = horizontal_plain;
constexpr auto vertical_avx2 = vertical_plain;
#endif

// Rows in chunks of 16, whatever the number of threads.
template <class F>
void for_rows(int rows, F&& f) {
  constexpr int chunk = 16;
  parallel_for((rows + chunk - 1) / chunk, [&](int64_t c) {
    const int begin = static_cast<int>(c) * chunk;
    f(begin, std::min(rows, begin + chunk));
  });
}

Image horizontal_pass(const Image& image, const Taps& taps) {
  const auto run = simd_path() == CpuPath::Plain ? horizontal_plain : horizontal_avx2;
  const WideTaps wide(taps);
  Image out(taps.outputs(), image.height);
  const size_t row_bytes = size_t{3} * static_cast<size_t>(image.width);
  const size_t padded = row_bytes + static_cast<size_t>(wide.groups) * group;
  for_rows(image.height, [&](int begin, int end) {
    const Scratch scratch(padded);
    auto* row = scratch.as<uint8_t>();
    std::memset(row + row_bytes, 0, padded - row_bytes);
    for (int y = begin; y < end; ++y) {
      std::memcpy(row, image.row(y), row_bytes);
      run(out.row(y), row, taps, wide);
    }
  });
  return out;
}

Image vertical_pass(const Image& image, const Taps& taps) {
  const auto run = simd_path() == CpuPath::Plain ? vertical_plain : vertical_avx2;
  Image out(image.width, taps.outputs());
  const size_t row_bytes = size_t{3} * static_cast<size_t>(image.width);
  for_rows(out.height, [&](int begin, int end) {
    for (int y = begin; y < end; ++y) {
      const auto i = static_cast<size_t>(y);
      run(out.row(y), image.row(taps.first[i]), row_bytes,
          &taps.weights[i * static_cast<size_t>(taps.stride)], taps.width[i]);
    }
  });
  return out;
}

}  // namespace

Taps make_taps(int inputs, int outputs, double support, const std::function<double(double)>& kernel) {
  Taps taps;
  taps.inputs = inputs;
  taps.stride = std::min(inputs, static_cast<int>(std::ceil(support)) * 2 + 1);
  taps.weights.resize(static_cast<size_t>(taps.stride) * static_cast<size_t>(outputs));
  const double scale = static_cast<double>(inputs) / outputs;
  std::vector<double> row(static_cast<size_t>(taps.stride));
  for (int i = 0; i < outputs; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - support + 0.5));
    const int width = std::min(inputs, static_cast<int>(centre + support + 0.5)) - first;
    double sum = 0;
    for (int k = 0; k < width; ++k) sum += row[static_cast<size_t>(k)] = kernel(first + k - centre + 0.5);
    int32_t* weights = &taps.weights[static_cast<size_t>(i) * static_cast<size_t>(taps.stride)];
    for (int k = 0; k < width; ++k) {
      const double weight = row[static_cast<size_t>(k)] / sum * (1 << Taps::fraction_bits);
      weights[k] = static_cast<int32_t>(weight + std::copysign(0.5, weight));
    }
    taps.first.push_back(first);
    taps.width.push_back(width);
  }
  return taps;
}

Image filter(const Image& image, const Taps* horizontal, const Taps* vertical) {
  QFM_CHECK(!horizontal || horizontal->inputs == image.width, "filter: taps for another width");
  QFM_CHECK(!vertical || vertical->inputs == image.height, "filter: taps for another height");
  if (!horizontal) return vertical ? vertical_pass(image, *vertical) : image;
  if (!vertical) return horizontal_pass(image, *horizontal);
  return vertical_pass(horizontal_pass(image, *horizontal), *vertical);
}

}  // namespace qfm
