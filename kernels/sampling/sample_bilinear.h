// Bilinear sampling of images (B, C, H, W) at given coordinates, as torch.nn.functional.grid_sample. A coordinate (gx,
// gy) lies in [-1, 1] from the left and upper end of the image to the right and lower one; those ends are the outer
// elements' edges or, with align_corners, their centres. In elements:
//   px = ((gx + 1) W - 1) / 2     or     px = (gx + 1) (W - 1) / 2,     py likewise with gy and H
// With l = floor(px), s = px - l, t = floor(py), u = py - t:
//   y[b, c, p] = (1 - u) ((1 - s) x[t, l] + s x[t, l + 1]) + u ((1 - s) x[t + 1, l] + s x[t + 1, l + 1])
// Padding: an element outside the image is 0 (Zeros), or px and py are moved to the nearest place inside first (Border).
//
// Backward: dx collects what each place weighs its four elements with, in the order of the places; with the sum over c
// of dy[b, c, p] in front,
//   dgx = px' ((1 - u) (x[t, l + 1] - x[t, l]) + u (x[t + 1, l + 1] - x[t + 1, l])),   px' = W / 2 or (W - 1) / 2
// and dgy likewise; 0 along an axis on which Border moved the place.
//
// Any coordinate is safe: nothing outside the image is read. A place with a NaN coordinate gives NaN in y and in both its
// gradients, and nothing to dx.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

enum class SamplePadding : unsigned char { Zeros, Border };

// Farther coordinates, infinity too, count as this one: an image of one element has its corner's place times 0.
inline constexpr float kSampleFar = 1e30f;

struct SampleShape {
  int64_t batch, channels, height, width;
  int64_t places;  // coordinates of an image
  SamplePadding padding = SamplePadding::Zeros;
  bool align_corners = false;
  QFM_HD int64_t plane() const { return height * width; }
};

// x, dx (batch, channels, height, width), y, dy (batch, channels, places), grid, dgrid (batch, places, 2): x, then y.
// height x width is below 2^30. T = float, bf16, double (CPU).
template <class T>
void sample_bilinear_forward(Cpu, const SampleShape& shape, T* y, const T* x, const acc<T>* grid);
template <class T>
void sample_bilinear_forward(Cuda, const SampleShape& shape, T* y, const T* x, const acc<T>* grid);

// Every element of dx is written.
template <class T>
void sample_bilinear_dx(Cpu, const SampleShape& shape, T* dx, const T* dy, const acc<T>* grid);
template <class T>
void sample_bilinear_dx(Cuda, const SampleShape& shape, T* dx, const T* dy, const acc<T>* grid);

template <class T>
void sample_bilinear_dgrid(Cpu, const SampleShape& shape, acc<T>* dgrid, const T* dy, const T* x,
                           const acc<T>* grid);
template <class T>
void sample_bilinear_dgrid(Cuda, const SampleShape& shape, acc<T>* dgrid, const T* dy, const T* x,
                           const acc<T>* grid);

}  // namespace qfm
