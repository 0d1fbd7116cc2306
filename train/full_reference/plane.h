// One channel of a photo in floats.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace qfm {

// Rows of floats, each aligned to 64 bytes, with kMargin floats before and behind that are 0 until somebody sets them.
// The rows themselves are not initialised.
class Plane {
 public:
  static constexpr int kMargin = 16;

  Plane() = default;
  Plane(int w, int h)
      : width(w),
        height(h),
        stride_((static_cast<size_t>(w) + kMargin - 1) / kMargin * kMargin + 2 * kMargin),
        memory_(std::make_unique_for_overwrite<float[]>(stride_ * static_cast<size_t>(h) + kMargin)) {
    for (int y = 0; y < h; ++y) {
      std::fill_n(row(y) - kMargin, kMargin, 0.0f);
      std::fill(row(y) + w, row(y) - kMargin + stride_, 0.0f);
    }
  }

  int width = 0, height = 0;

  float* row(int y) { return first() + stride_ * static_cast<size_t>(y); }
  const float* row(int y) const { return const_cast<Plane*>(this)->row(y); }

 private:
  // The first row's column 0: margins are whole lines of the cache.
  float* first() {
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    return memory_.get() + (64 - address % 64) % 64 / sizeof(float) + kMargin;
  }
  size_t stride_ = 0;
  std::unique_ptr<float[]> memory_;
};

// The last `count` rows of a plane that is made row by row.
class RowRing {
 public:
  RowRing(int width, int count) : rows_(width, count) {}
  float* operator[](int y) { return rows_.row(y % rows_.height); }

 private:
  Plane rows_;
};

}  // namespace qfm
