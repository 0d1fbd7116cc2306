#include "train/image/distort.h"

#include <algorithm>
#include <cmath>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "engine/base/threads.h"
#include "train/image/decode.h"
#include "train/image/encode.h"
#include "train/image/separable.h"

namespace qfm {
namespace {

constexpr double blur_sigmas[distortion_levels] = {0.8, 1.6, 2.8, 4.5, 7};
constexpr double noise_sigmas[distortion_levels] = {6, 12, 22, 38, 60};
constexpr int jpeg_qualities[distortion_levels] = {40, 22, 12, 7, 4};
constexpr Distortion all_kinds[] = {Distortion::Blur, Distortion::Noise, Distortion::Jpeg};

}  // namespace

Image distort(const Image& image, Distortion kind, int level, uint64_t seed, uint32_t sample) {
  QFM_CHECK(level >= 1 && level <= distortion_levels, "distortion level is ", level, ", expected 1..",
            distortion_levels);
  if (kind == Distortion::Blur) return gaussian_blur(image, blur_sigmas[level - 1]);
  if (kind == Distortion::Noise) return white_noise(image, noise_sigmas[level - 1], seed, sample);
  return jpeg_compressed(image, jpeg_qualities[level - 1]);
}

Image gaussian_blur(const Image& image, double sigma) {
  QFM_CHECK(sigma > 0 && sigma <= 1000, "blur: sigma is ", sigma, ", expected to be in (0, 1000]");
  const auto bell = [=](double x) { return std::exp(-0.5 * x * x / (sigma * sigma)); };
  const double reach = std::ceil(3 * sigma);
  const Taps horizontal = make_taps(image.width, image.width, reach, bell);
  const Taps vertical = make_taps(image.height, image.height, reach, bell);
  return filter(image, &horizontal, &vertical);
}

Image white_noise(const Image& image, double sigma, uint64_t seed, uint32_t sample) {
  QFM_CHECK(sigma >= 0, "noise: sigma is ", sigma, ", expected at least 0");
  Image out(image.width, image.height);
  parallel_for(image.height, [&](int64_t row) {
    const int y = static_cast<int>(row);
    Rng rng(seed, "noise", static_cast<uint32_t>(y), sample);
    const uint8_t* from = image.row(y);
    uint8_t* to = out.row(y);
    for (int i = 0; i < 3 * image.width; ++i)
      to[i] = static_cast<uint8_t>(std::clamp(std::lround(from[i] + sigma * rng.normal()), 0L, 255L));
  });
  return out;
}

Image jpeg_compressed(const Image& image, int quality) {
  return decode_image(encode_jpeg(image, quality), "jpeg");
}

const char* name_of(Distortion kind) {
  return kind == Distortion::Blur ? "blur" : kind == Distortion::Noise ? "noise" : "jpeg";
}

Distortion parse_distortion(const std::string& name) {
  for (Distortion kind : all_kinds)
    if (name == name_of(kind)) return kind;
  QFM_FAIL("distortions are 'blur', 'noise' and 'jpeg', not '", name, "'");
}

}  // namespace qfm
