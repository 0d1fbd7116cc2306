// Crops of decoded images to what a network takes: cut, mirrored or not, normalised, one plane a channel.
//   out[b, c, y, x] = (pixel / 255 - mean[c]) / std[c]
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

// One crop: pixels (height, width, 3) of an image, 8-bit RGB rows without padding, in the memory of the
// kernel's device; images of a batch may differ in size. The window must lie inside: kernels do not check it.
struct CropSource {
  const uint8_t* pixels;
  int32_t width, height;
  int32_t left, top;
  int32_t mirror;  // 1: left and right exchanged
};
struct ChannelScale {
  float mean[3], std[3];
};

// out (batch, 3, crop, crop); sources (batch) in the memory of the kernel's device.
template <class T>
void crop_normalise(Cpu, T* out, const CropSource* sources, ChannelScale scale, int64_t batch, int64_t crop);
template <class T>
void crop_normalise(Cuda, T* out, const CropSource* sources, ChannelScale scale, int64_t batch, int64_t crop);

}  // namespace qfm
