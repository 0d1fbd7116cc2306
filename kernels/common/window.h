// A window that slides along one axis of an image: of a convolution, of pooling.
#pragma once
#include <cstdint>

namespace qfm {

struct Window {
  int64_t size = 1, stride = 1;
  int64_t pad_begin = 0, pad_end = 0;  // zeros (a convolution) or nothing (pooling) before and after the axis
  int64_t dilation = 1;
  // From the first to the last element that one position sees.
  int64_t span() const { return (size - 1) * dilation + 1; }
  // Positions along an axis of `in` elements; 0 or less where the window is larger than the padded axis.
  int64_t positions(int64_t in) const {
    const int64_t room = in + pad_begin + pad_end - span();
    return room < 0 ? 0 : room / stride + 1;
  }
  // The element that tap `tap` of position `position` sees; outside [0, in) it is padding.
  int64_t at(int64_t position, int64_t tap) const { return position * stride - pad_begin + tap * dilation; }
};

}  // namespace qfm
