// A convolution as a product of tiles, and the gradient of its image by phases, with a place for each bug.
#pragma once
#include <algorithm>
#include <vector>

#include "engine/cuda/launch.h"
#include "tests/engine/planted_bugs.h"

namespace qfm::test {

// A square window over `batch` images (channels, height, width).
struct PlantedConv {
  int batch, channels, height, width, out, size, stride, pad;
  int positions(int length) const { return (length + 2 * pad - size) / stride + 1; }
};

// y = x * w in tiles of 4 channels and 16 places of one image, 8 lines (c, u, v) at a time.
template <Bug bug>
__global__ void conv_kernel(float* y, const float* x, const float* w, PlantedConv s, int rows, int columns) {
  constexpr int kOut = 4, kPlaces = 16, kDepth = 8;
  SHARED(float, xs, [kDepth][kPlaces]);
  SHARED(float, ws, [kOut][kDepth]);
  const int t = threadIdx.x, o = t / kPlaces, n = t % kPlaces, taps = s.size * s.size,
            lines = s.channels * taps;
  const int channel = blockIdx.y * kOut + o, places = rows * columns, place = blockIdx.x * kPlaces + n;
  const float* image = x + blockIdx.z * s.channels * s.height * s.width;
  float sum = 0;
  for (int k = 0; k < lines; k += kDepth) {
    for (int q = o; q < kDepth; q += kOut) {  // the thread's place in two lines
      const int line = k + q, c = line / taps, tap = line % taps;
      const int u = bug == Bug::ConvTapsTurned ? tap % s.size : tap / s.size, v = tap - tap / s.size * s.size;
      const int tap_column = bug == Bug::ConvTapsTurned ? tap / s.size : v;
      const int row = place / columns * s.stride - s.pad + u,
                column = place % columns * s.stride - s.pad + tap_column;
      const bool inside = (line < lines || bug == Bug::ConvLinesRoundedUp) && place < places && row >= 0 &&
                          row < s.height + (bug == Bug::ConvRowTooFar) && column >= 0 &&
                          column < s.width + (bug == Bug::ConvColumnTooFar);
      xs[q][n] = inside ? image[(c * s.height + row) * s.width + column] : 0.0f;
    }
    if (n < kDepth) {
      const bool inside = channel < s.out && (k + n < lines || bug == Bug::ConvLinesRoundedUp);
      ws[o][n] = inside ? w[channel * lines + k + n] : 0.0f;
    }
    if (bug != Bug::ConvNoBarrierAfterGather) __syncthreads();
    for (int q = 0; q < kDepth; ++q) sum += ws[o][q] * xs[q][n];
    if (bug != Bug::ConvNoBarrierBeforeGather) __syncthreads();
  }
  if (channel < s.out + (bug == Bug::ConvChannelTooFar) && (place < places || bug == Bug::ConvPlaceTooFar))
    y[(static_cast<int>(blockIdx.z) * s.out + channel) * places + place] = sum;
}

// dx of one phase (blockIdx.z) of stride x stride, a thread an element.
template <Bug bug>
__global__ void conv_dx_kernel(float* dx, const float* dy, const float* w, PlantedConv s, int rows,
                               int columns) {
  const int phase_y = blockIdx.z / s.stride, phase_x = blockIdx.z % s.stride;
  const auto count = [&](int length, int phase) {
    return bug == Bug::ConvPhaseRoundedDown ? (length - phase) / s.stride
                                            : (length - phase + s.stride - 1) / s.stride;
  };
  const int across = count(s.width, phase_x), at = blockIdx.x * blockDim.x + threadIdx.x;
  const int c = blockIdx.y % s.channels, image = blockIdx.y / s.channels;
  if (at >= across * count(s.height, phase_y)) return;
  const int row = at / across * s.stride + phase_y, column = at % across * s.stride + phase_x;
  // The first tap that meets an element of dy: row + pad - u is a multiple of the stride.
  const auto first = [&](int phase) {
    return (phase + (bug == Bug::ConvPhaseWithoutPadding ? 0 : s.pad)) % s.stride;
  };
  float sum = 0;
  for (int o = 0; o < s.out; ++o)
    for (int u = first(phase_y); u < s.size; u += s.stride)
      for (int v = first(phase_x); v < s.size; v += s.stride) {
        const int i = (row + s.pad - u) / s.stride, j = (column + s.pad - v) / s.stride;
        if (row + s.pad - u < 0 || column + s.pad - v < 0 || i >= rows || j >= columns) continue;
        sum += w[((o * s.channels + c) * s.size + u) * s.size + v] *
               dy[((image * s.out + o) * rows + i) * columns + j];
      }
  dx[((image * s.channels + c) * s.height + row) * s.width + column] = sum;
}

// Calls f(w's index, x's index, y's index) for every product of the convolution.
template <class F>
void for_products(const PlantedConv& s, F&& f) {
  const int rows = s.positions(s.height), columns = s.positions(s.width);
  for (int y = 0; y < s.batch * s.out * rows * columns; ++y)
    for (int line = 0; line < s.channels * s.size * s.size; ++line) {
      const int o = y / (rows * columns) % s.out, image = y / (rows * columns * s.out);
      const int c = line / (s.size * s.size),
                row = y / columns % rows * s.stride - s.pad + line / s.size % s.size;
      const int column = y % columns * s.stride - s.pad + line % s.size;
      if (row >= 0 && row < s.height && column >= 0 && column < s.width)
        f(o * s.channels * s.size * s.size + line,
          ((image * s.channels + c) * s.height + row) * s.width + column, y);
    }
}

// Small whole numbers: every order of addition is exact.
template <Bug bug>
Hunt hunt_in_conv() {
  Hunt hunt;
  for (const PlantedConv& s : {PlantedConv{1, 1, 1, 1, 1, 1, 1, 0}, PlantedConv{2, 3, 6, 7, 5, 3, 1, 1},
                               PlantedConv{1, 2, 9, 8, 6, 3, 2, 1}}) {
    const int rows = s.positions(s.height), columns = s.positions(s.width), places = rows * columns;
    const auto whole = [](size_t i) { return static_cast<float>(i * 37 % 9) - 4; };
    const size_t x_size = s.batch * s.channels * s.height * s.width, y_size = s.batch * s.out * places;
    const auto x = with_margin<float>(x_size, 4 * s.height * s.width + 16, whole),
               w = with_margin<float>(s.out * s.channels * s.size * s.size, 16, whole),
               gradient = with_margin<float>(y_size, 0, whole);
    std::vector<float> y, dx, expected_y(y_size), expected_dx(x_size);
    for_products(s, [&](int wi, int xi, int yi) {
      expected_y[yi] += w[wi] * x[xi];
      expected_dx[xi] += w[wi] * gradient[yi];
    });
    const auto launch_both = [&] {
      y.assign(y_size + 2 * places + 16, kNan), dx.assign(x_size, kNan);
      launch<conv_kernel<bug>>(dim3((places + 15) / 16, (s.out + 3) / 4, s.batch), 64, 0, nullptr, y.data(),
                               x.data(), w.data(), s, rows, columns);
      launch<conv_dx_kernel<bug>>(
          dim3((s.height * s.width + 31) / 32, s.channels * s.batch, s.stride * s.stride), 32, 0, nullptr,
          dx.data(), gradient.data(), w.data(), s, rows, columns);
    };
    hunt.run(launch_both, [&] {
      return std::equal(expected_y.begin(), expected_y.end(), y.begin()) && all_nan(y, y_size) &&
             dx == expected_dx;
    });
  }
  return hunt;
}

}  // namespace qfm::test
