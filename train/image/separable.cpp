#include "train/image/separable.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/base/cpu.h"
#include "engine/base/error.h"
#include "engine/base/resample.h"
#include "engine/base/threads.h"
#include "engine/memory/memory.h"
#include "train/image/separable_rows.h"

namespace qfm {
namespace {

auto best_horizontal() {
  if constexpr (has_vector_code)
    if (cpu_path() != CpuIsa::Plain) return &avx2::horizontal_row;
  return &plain::horizontal_row;
}
auto best_vertical() {
  if constexpr (has_vector_code)
    if (cpu_path() != CpuIsa::Plain) return &avx2::vertical_row;
  return &plain::vertical_row;
}

// The weights of a horizontal pass as its inner loop wants them.
std::vector<int32_t> widen(const Taps& taps, int groups) {
  const size_t row = static_cast<size_t>(groups) * separable_group;
  std::vector<int32_t> weights(row * static_cast<size_t>(taps.outputs()));
  for (size_t i = 0; i < taps.first.size(); ++i)
    for (size_t k = 0; k < 3 * static_cast<size_t>(taps.width[i]); ++k)
      weights[i * row + k] = taps.weights[i * static_cast<size_t>(taps.stride) + k / 3];
  return weights;
}

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
  const auto run = best_horizontal();
  const int groups = (3 * taps.stride + separable_group - 1) / separable_group;
  const auto weights = widen(taps, groups);
  const WideTaps wide{taps.first.data(), weights.data(), taps.outputs(), groups};
  Image out(taps.outputs(), image.height);
  const size_t row_bytes = size_t{3} * static_cast<size_t>(image.width);
  const size_t padded = row_bytes + static_cast<size_t>(groups) * separable_group;
  for_rows(image.height, [&](int begin, int end) {
    const Scratch scratch(padded);
    auto* row = scratch.as<uint8_t>();
    std::memset(row + row_bytes, 0, padded - row_bytes);
    for (int y = begin; y < end; ++y) {
      std::memcpy(row, image.row(y), row_bytes);
      run(out.row(y), row, wide);
    }
  });
  return out;
}

Image vertical_pass(const Image& image, const Taps& taps) {
  const auto run = best_vertical();
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
  return make_taps(inputs, outputs, support, kernel, 0, outputs);
}

Taps make_taps(int inputs, int outputs, double support, const std::function<double(double)>& kernel, int begin, int end) {
  Taps taps;
  taps.inputs = inputs;
  taps.stride = std::min(inputs, static_cast<int>(std::ceil(support)) * 2 + 1);
  taps.weights.resize(static_cast<size_t>(taps.stride) * static_cast<size_t>(end - begin));
  int32_t* weights = taps.weights.data();
  for (const auto& point : resample_axis(inputs, outputs, support, kernel, begin, end)) {
    for (size_t k = 0; k < point.weights.size(); ++k) {
      const double weight = point.weights[k] * (1 << separable_fraction_bits);
      weights[k] = static_cast<int32_t>(weight + std::copysign(0.5, weight));
    }
    taps.first.push_back(static_cast<int>(point.first));
    taps.width.push_back(static_cast<int>(point.weights.size()));
    weights += taps.stride;
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
