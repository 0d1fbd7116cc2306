// The loss at one element, for both devices: its value, and its derivative in `slope`, before the
// mean. See loss.h.
#pragma once
#include <cmath>

#include "engine/base/dtype.h"

namespace qfm {

struct SmoothL1Point {
  double beta;
  QFM_HD double operator()(double d, double& slope) const {
    const double size = std::fabs(d);
    if (size < beta) {
      slope = d / beta;
      return d * d / (2 * beta);
    }
    slope = d > 0 ? 1 : d < 0 ? -1 : d;  // d itself: 0, or a NaN to be seen
    return size - beta / 2;
  }
};

}  // namespace qfm
