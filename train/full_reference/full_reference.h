// How far a photo is from its original: five published measures, as scikit-image and pyiqa compute them.
//
//   psnr     10 log10(255^2 / mean squared error) over R, G and B: skimage.metrics.peak_signal_noise_ratio
// and on luma Y = round(0.299 R + 0.587 G + 0.114 B), 0..255:
//   ssim     Wang et al. 2004: Gaussian window 11 x 11, sigma 1.5, inside the photo only; C1 = (0.01 255)^2,
//            C2 = (0.03 255)^2, biased variances, no downsampling: skimage.metrics.structural_similarity(
//            gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
//   ms_ssim  Wang et al. 2003: five scales, each the mean of 2 x 2 of the one before (an odd side gets a line of
//            zeros in front), exponents 0.0448 0.2856 0.3001 0.2363 0.1333; contrast and structure below 0 count
//            as 0: pyiqa's ms_ssim
//   gmsd     Xue et al. 2014: means of 2 x 2, Prewitt / 3 with zeros around, T = 170, the sample's deviation:
//            pyiqa's gmsd
//   vif      Sheikh and Bovik 2006 in wavelets: steerable pyramid sp5, four scales, horizontal and vertical
//            bands, blocks of 3 x 3, noise 0.4, borders reflected: pyiqa's vif
#pragma once
#include <optional>

#include "train/full_reference/plane.h"
#include "train/image/image.h"

namespace qfm {

struct FullReference {
  std::optional<double> psnr;     // dB; none where no pixel differs: it is infinite
  std::optional<double> ssim;     // none where a side is below 11 pixels
  std::optional<double> ms_ssim;  // 161
  std::optional<double> gmsd;     // 4; 0 is best, the others are better the higher
  std::optional<double> vif;      // 33; none for a flat reference
};

// Photos of equal pixels have gmsd 0 and 1 of the others, whatever their size. Equal bits for any number of threads.
// Throws Error where the sizes differ.
FullReference full_reference(const Image& reference, const Image& distorted);

// 1 - SSIM at each pixel, 0 where nothing differs; within 5 pixels of the border that of the nearest window. Throws
// Error where the sizes differ or a side is below 11 pixels.
Plane ssim_difference(const Image& reference, const Image& distorted);

}  // namespace qfm
