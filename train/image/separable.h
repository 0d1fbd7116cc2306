// Weighted sums along rows, then along columns, in the fixed-point arithmetic of Pillow: resizing and blurring.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "train/image/image.h"

namespace qfm {

// What each output position takes from one axis of the input: `width[i]` inputs from `first[i]`, with integer
// weights that sum to about 2^22, `stride` numbers apart (zeros fill up).
struct Taps {
  int inputs = 0, stride = 0;
  std::vector<int> first, width;
  std::vector<int32_t> weights;

  int outputs() const { return static_cast<int>(first.size()); }
};

// Output i sums the inputs around (i + 0.5) * inputs / outputs, at most `support` away (in inputs), weighted
// by kernel(distance) and normalised in double; then rounded to fixed point, halves away from zero.
Taps make_taps(int inputs, int outputs, double support, const std::function<double(double)>& kernel);
// Of outputs [begin, end) alone.
Taps make_taps(int inputs, int outputs, double support, const std::function<double(double)>& kernel, int begin, int end);

// Horizontal pass, rounded to 8 bits, then the vertical pass. A null pointer skips a pass.
// Equal bits for any number of threads and any processor.
Image filter(const Image& image, const Taps* horizontal, const Taps* vertical);

}  // namespace qfm
