#include "train/full_reference/full_reference.h"

#include <algorithm>
#include <cmath>

#include "engine/base/error.h"
#include "engine/base/threads.h"
#include "train/full_reference/measures.h"
#include "train/full_reference/row_loops.h"

namespace qfm {
namespace {

Plane luma_of(const Image& image) {
  Plane luma(image.width, image.height);
  for (int y = 0; y < image.height; ++y) row_loops().luma(luma.row(y), image.row(y), image.width);
  return luma;
}

double psnr(const Image& a, const Image& b) {
  uint64_t sum = 0;
  for (int y = 0; y < a.height; ++y) sum += row_loops().squared_error(a.row(y), b.row(y), 3 * a.width);
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.rgb.size()) / static_cast<double>(sum));
}

void check_sizes(const Image& a, const Image& b) {
  QFM_CHECK(a.width == b.width && a.height == b.height, "is ", b.width, " x ", b.height, ", the reference ",
            a.width, " x ", a.height);
}

}  // namespace

FullReference full_reference(const Image& reference, const Image& distorted) {
  check_sizes(reference, distorted);
  if (reference.rgb == distorted.rgb) return {std::nullopt, 1, 1, 0, 1};
  const Plane x = luma_of(reference), y = luma_of(distorted);
  const int side = std::min(x.width, x.height);
  FullReference all;
  const auto structure = [&] {
    if (side < kSsimWindow) return;
    const SsimMeans finest = ssim_means(x, y);
    all.ssim = finest.ssim;
    if ((side + 15) / 16 >= kSsimWindow) all.ms_ssim = ms_ssim(finest, x, y);
  };
  const auto gradients = [&] {
    all.psnr = psnr(reference, distorted);
    if (side >= 4) all.gmsd = gmsd(x, y);
  };
  const auto information = [&] {
    if (side >= 33) all.vif = vif(x, y);
  };
  parallel_for(3, [&](int64_t task) { task == 0 ? information() : task == 1 ? structure() : gradients(); });
  return all;
}

Plane ssim_difference(const Image& reference, const Image& distorted) {
  check_sizes(reference, distorted);
  QFM_CHECK(std::min(reference.width, reference.height) >= kSsimWindow, "a map needs sides of ", kSsimWindow,
            " pixels");
  const Plane x = luma_of(reference), y = luma_of(distorted);
  Plane inside(x.width - kSsimWindow + 1, x.height - kSsimWindow + 1), map(x.width, x.height);
  ssim_means(x, y, &inside);
  const auto nearest = [](int at, int size) { return std::clamp(at - kSsimWindow / 2, 0, size - 1); };
  for (int v = 0; v < map.height; ++v)
    for (int u = 0; u < map.width; ++u)
      map.row(v)[u] = 1 - inside.row(nearest(v, inside.height))[nearest(u, inside.width)];
  return map;
}

}  // namespace qfm
