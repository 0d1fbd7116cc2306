// The measures on two lumas of one size; full_reference.h has their definitions.
#pragma once
#include <optional>

#include "train/full_reference/plane.h"

namespace qfm {

struct SsimMeans {
  double ssim = 0;
  double not_below_0 = 0;  // of SSIM, each pixel's not below 0
  double contrast = 0;     // of contrast times structure, each pixel's not below 0
};
// Means over all windows inside; sides of at least 11 pixels. map, unless null, gets SSIM at each window's middle.
SsimMeans ssim_means(const Plane& x, const Plane& y, Plane* map = nullptr);
// finest: of x and y themselves.
double ms_ssim(const SsimMeans& finest, const Plane& x, const Plane& y);
// The means of 2 x 2 pixels. odd: an odd side gets a line of zeros in front; else its last line is left out.
enum class OddSide { ZerosInFront, LeftOut };
Plane halved(const Plane& plane, OddSide odd);

// Sides of at least 4 pixels.
double gmsd(const Plane& x, const Plane& y);

// Sides of at least 33 pixels. None where x, the reference, holds no information: a flat one.
std::optional<double> vif(const Plane& x, const Plane& y);

}  // namespace qfm
