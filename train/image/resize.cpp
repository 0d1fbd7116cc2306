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

// Outputs [begin, end). Shrinking stretches the kernel over all inputs that an output stands for: that is the antialiasing.
Taps axis(int inputs, int outputs, Resampling how, int begin, int end) {
  const double stretch = std::max(1.0, static_cast<double>(inputs) / outputs), inverse = 1.0 / stretch;
  if (how == Resampling::Bilinear)
    return make_taps(inputs, outputs, stretch, [=](double x) { return triangle(x * inverse); }, begin, end);
  return make_taps(inputs, outputs, 2 * stretch, [=](double x) { return cubic_kernel(x * inverse); }, begin, end);
}

std::optional<Taps> axis(int inputs, int outputs, Resampling how) {
  if (inputs == outputs) return std::nullopt;
  return axis(inputs, outputs, how, 0, outputs);
}

// The rows that `taps` ask for; the taps then count from the first of them.
Image rows_of(const Image& image, Taps& taps) {
  const int first = taps.first.front();  // rising with the output
  int end = 0;
  for (size_t i = 0; i < taps.first.size(); ++i) end = std::max(end, taps.first[i] + taps.width[i]);
  for (int& f : taps.first) f -= first;
  taps.inputs = end - first;
  Image rows(image.width, taps.inputs);
  std::copy(image.row(first), image.row(first) + rows.rgb.size(), rows.rgb.begin());
  return rows;
}

}  // namespace

Image resize(const Image& image, int width, int height, Resampling how) {
  QFM_CHECK(image.width > 0 && image.height > 0 && width > 0 && height > 0, "resize from ", image.width, "x",
            image.height, " to ", width, "x", height);
  const auto horizontal = axis(image.width, width, how), vertical = axis(image.height, height, how);
  return filter(image, horizontal ? &*horizontal : nullptr, vertical ? &*vertical : nullptr);
}

Image resize_part(const Image& image, int width, int height, const Part& part, Resampling how) {
  QFM_CHECK(image.width > 0 && image.height > 0 && part.left >= 0 && part.top >= 0 && part.width > 0 && part.height > 0 &&
                part.left <= width - part.width && part.top <= height - part.height,
            "no part at ", part.left, ",", part.top, " of ", width, "x", height);
  const Taps horizontal = axis(image.width, width, how, part.left, part.left + part.width);
  Taps vertical = axis(image.height, height, how, part.top, part.top + part.height);
  const Image rows = rows_of(image, vertical);
  return filter(rows, &horizontal, &vertical);
}

Image resize_shorter_side(Image image, int side, Resampling how) {
  const int64_t shorter = std::min(image.width, image.height), longer = std::max(image.width, image.height);
  if (shorter == side) return image;
  QFM_CHECK(shorter > 0, "resize of an empty picture");
  const int other = static_cast<int>(side * longer / shorter);
  return image.width <= image.height ? resize(image, side, other, how) : resize(image, other, side, how);
}

}  // namespace qfm
