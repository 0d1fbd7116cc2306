#include "train/image/resize.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "engine/base/error.h"
#include "engine/base/resample.h"
#include "train/image/separable.h"

namespace qfm {
namespace {

double triangle(double x) { return std::max(0.0, 1.0 - std::fabs(x)); }

// Shrinking stretches the kernel over all inputs that an output stands for: that is the antialiasing.
std::optional<Taps> axis(int inputs, int outputs, Resampling how) {
  if (inputs == outputs) return std::nullopt;
  const double stretch = std::max(1.0, static_cast<double>(inputs) / outputs), inverse = 1.0 / stretch;
  if (how == Resampling::Bilinear)
    return make_taps(inputs, outputs, stretch, [=](double x) { return triangle(x * inverse); });
  return make_taps(inputs, outputs, 2 * stretch, [=](double x) { return cubic_kernel(x * inverse); });
}

}  // namespace

Image resize(const Image& image, int width, int height, Resampling how) {
  QFM_CHECK(image.width > 0 && image.height > 0 && width > 0 && height > 0, "resize from ", image.width, "x",
            image.height, " to ", width, "x", height);
  const auto horizontal = axis(image.width, width, how), vertical = axis(image.height, height, how);
  return filter(image, horizontal ? &*horizontal : nullptr, vertical ? &*vertical : nullptr);
}

Image resize_shorter_side(Image image, int side, Resampling how) {
  const int64_t shorter = std::min(image.width, image.height), longer = std::max(image.width, image.height);
  if (shorter == side) return image;
  QFM_CHECK(shorter > 0, "resize of an empty picture");
  const int other = static_cast<int>(side * longer / shorter);
  return image.width <= image.height ? resize(image, side, other, how) : resize(image, other, side, how);
}

}  // namespace qfm
