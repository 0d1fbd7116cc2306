// Images to rows of patches: the patch embedding is this and a matrix product.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

struct PatchShape {
  int64_t batch, channels, height, width, patch;  // height and width are multiples of patch
  int64_t tokens() const { return (height / patch) * (width / patch); }
  int64_t cols() const { return channels * patch * patch; }
};

// rows (batch * tokens, channels * patch * patch) from images (batch, channels, height, width); tokens row by
// row, the order inside a row is that of a convolution weight (channel, y, x).
template <class T>
void patchify(Cpu, PatchShape shape, T* rows, const T* images);
template <class T>
void patchify(Cuda, PatchShape shape, T* rows, const T* images);
// The inverse permutation (its backward).
template <class T>
void unpatchify(Cpu, PatchShape shape, T* images, const T* rows);
template <class T>
void unpatchify(Cuda, PatchShape shape, T* images, const T* rows);

}  // namespace qfm
