#include "train/image/near_duplicate.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace qfm {
namespace {

constexpr int kColumns = 9, kRows = 8;

// Mean luma of cell (x, y), from at most about 32 x 32 of its pixels.
float cell_mean(const Image& image, int x, int y) {
  const int left = image.width * x / kColumns, right = std::max(image.width * (x + 1) / kColumns, left + 1);
  const int top = image.height * y / kRows, bottom = std::max(image.height * (y + 1) / kRows, top + 1);
  const int step_x = std::max(1, (right - left) / 32), step_y = std::max(1, (bottom - top) / 32);
  int64_t sum = 0, pixels = 0;
  for (int v = top; v < bottom; v += step_y)
    for (int u = left; u < right; u += step_x, ++pixels) {
      const uint8_t* p = image.row(v) + 3 * u;
      sum += 77 * p[0] + 150 * p[1] + 29 * p[2];
    }
  return static_cast<float>(sum) / static_cast<float>(256 * pixels);
}

bool similar(const PerceptualHash& a, const PerceptualHash& b, int bits, double correlation) {
  if (std::popcount(a.bits ^ b.bits) > bits || a.plain || b.plain) return false;
  int64_t ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.thumbnail.size(); ++i) {
    ab += a.thumbnail[i] * b.thumbnail[i];
    aa += a.thumbnail[i] * a.thumbnail[i];
    bb += b.thumbnail[i] * b.thumbnail[i];
  }
  return static_cast<double>(ab) >= correlation * std::sqrt(static_cast<double>(aa) * static_cast<double>(bb));
}

}  // namespace

PerceptualHash perceptual_hash(const Image& image) {
  std::array<float, kColumns * kRows> cells;
  for (int y = 0; y < kRows; ++y)
    for (int x = 0; x < kColumns; ++x) cells[static_cast<size_t>(y * kColumns + x)] = cell_mean(image, x, y);
  float mean = 0, most = 0;
  for (float cell : cells) mean += cell / static_cast<float>(cells.size());
  for (float cell : cells) most = std::max(most, std::abs(cell - mean));
  PerceptualHash look;
  look.plain = most < 2;
  if (look.plain) return look;
  for (size_t i = 0; i < cells.size(); ++i)
    look.thumbnail[i] = static_cast<int8_t>(std::lround((cells[i] - mean) / most * 127));
  for (size_t i = 0, bit = 0; i < cells.size(); ++i)
    if (i % kColumns > 0) look.bits |= uint64_t{cells[i] > cells[i - 1]} << bit++;
  return look;
}

bool near_duplicate(const PerceptualHash& a, const PerceptualHash& b) { return similar(a, b, 10, 0.98); }
bool look_alike(const PerceptualHash& a, const PerceptualHash& b) { return similar(a, b, 22, 0.8); }

}  // namespace qfm
