// From a photo to what a network takes: windows of 224 x 224, mirrored or not, normalised, one plane a channel.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/rng.h"
#include "engine/tensor.h"
#include "kernels/image/crops.h"
#include "models/preprocessing.h"
#include "train/image/image.h"
#include "train/image/resize.h"

namespace qfm {

struct Crops {
  enum class Kind { Grid, Center, Random } kind = Kind::Grid;
  int count = 10;  // Random: how many
};
// "grid", "center" or "random:N" with N in 1..1000. Throws Error otherwise.
Crops parse_crops(const std::string& text);
std::string name_of(const Crops& crops);

struct CropWindow {
  int left, top;
  friend bool operator==(const CropWindow&, const CropWindow&) = default;
};

// Brings a photo to `size`; a shorter side below `crop` is brought up to it. Throws Error for a strip so
// narrow that this would take more than 2^27 pixels.
Image fit_for_crops(Image image, const Resize& size, int crop, Resampling how = Resampling::Bilinear);

// Windows of crop x crop inside width x height, both at least `crop`.
//   Center  ((width - crop) / 2, (height - crop) / 2), integer division
//   Grid    n = min(max(1, ceil(L / crop)), 4) an axis, the larger n reduced until there are at most 10
//   windows in all;
//           offset k is round(k * (L - crop) / (n - 1)), halves up, 0 for n = 1; row by row
//   Random  drawn from `rng`, top before left
// Throws Error where no window fits.
std::vector<CropWindow> crop_windows(const Crops& crops, int width, int height, int crop, Rng rng);

struct Normalisation {
  float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};  // ImageNet
};

// The windows of a photo brought to `size` as by fit_for_crops, and their pixels: that of windows[i] begins at places[i] of
// `image`, which is the whole photo or, where that takes less memory (a strip 1 pixel wide), the windows one below the other.
struct CutPhoto {
  Image image;
  std::vector<CropWindow> windows, places;
};
// Throws Error for a strip that would become longer than 2^28 pixels.
CutPhoto cut_photo(Image photo, const Resize& size, int crop, const Crops& crops, const Rng& rng,
                   Resampling how = Resampling::Bilinear);

// images (batch, 3, crop, crop), floating: cut, mirrored and normalised where they lie. sources (batch), and
// the pixels they point to, in the memory of that device; their windows lie inside.
void cut_crops(const Tensor& images, const CropSource* sources, const Normalisation& norm);

// out (3, crop, crop): (v / 255 - mean) / std of the window, its columns in reverse order if `mirror`.
// Throws Error where the window leaves the image.
void normalise(float* out, const Image& image, CropWindow window, int crop, bool mirror,
               const Normalisation& norm = {});

}  // namespace qfm
