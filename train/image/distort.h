// Graded distortions of a photo, for demonstrations and tests: which of two levels is worse is known beforehand.
#pragma once
#include <cstdint>
#include <string>

#include "train/image/image.h"

namespace qfm {

enum class Distortion { Blur, Noise, Jpeg };
inline constexpr int distortion_levels = 5;

// Level                  1    2    3    4    5
// Blur   Gaussian sigma  0.8  1.6  2.8  4.5  7    pixels; cut off at 3 sigma, renormalised at the borders
// Noise  Gaussian sigma  6    12   22   38   60   of 0..255, each channel on its own, clipped
// Jpeg   quality         40   22   12   7    4    encoded and decoded again
// Noise row y draws from the stream (seed, "noise", y, sample): equal bits for any number of threads.
// Throws Error for another level.
Image distort(const Image& image, Distortion kind, int level, uint64_t seed = 0, uint32_t sample = 0);

Image gaussian_blur(const Image& image, double sigma);
Image white_noise(const Image& image, double sigma, uint64_t seed, uint32_t sample = 0);
Image jpeg_compressed(const Image& image, int quality);

const char* name_of(Distortion kind);             // "blur", "noise", "jpeg"
Distortion parse_distortion(const std::string&);  // throws Error for another name

}  // namespace qfm
