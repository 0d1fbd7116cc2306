// Antialiased resize, equal to Pillow's in every byte (horizontal pass first, as up to Pillow 12).
#pragma once
#include <string>

#include "train/image/image.h"

namespace qfm {

enum class Resampling { Bilinear, Bicubic };  // triangle; Keys with a = -0.5

// The whole image brought to width x height. Throws Error for a size below 1 or an empty image.
Image resize(const Image& image, int width, int height, Resampling how);

struct Part {
  int left, top, width, height;
};
// That part of resize(image, width, height, how), in the same bytes and without the memory of the rest. Throws Error where
// it leaves width x height.
Image resize_part(const Image& image, int width, int height, const Part& part, Resampling how);

// The shorter side brought to `side`, the longer one to int(side * longer / shorter), cut off (as torchvision
// does). An image whose shorter side has this length is handed through.
Image resize_shorter_side(Image image, int side, Resampling how);

}  // namespace qfm
