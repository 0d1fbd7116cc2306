// Bilinear resize of images (B, C, H, W) to (B, C, h, w), as torch.nn.functional.interpolate(mode="bilinear") without
// antialiasing. Each output is a mean of the four elements around its position, weighted by nearness:
//   y[i, j] = sum over rows r and columns c of down(i, r) across(j, c) x[r, c]
// with the positions and weights of ResizeAxis (resize_axis.h), along either axis.
// Backward: dx[r, c] = sum over i and j of down(i, r) across(j, c) dy[i, j], gathered in the order of i, then j.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"

namespace qfm {

struct ResizeShape {
  int64_t planes, height, width, out_height, out_width;  // planes: images x channels
  // Corners on corners: the outer elements' centres stay where they are; else the outer elements' edges do.
  bool align_corners = false;
};

// x, dx (planes, height, width), y, dy (planes, out_height, out_width). Sides are below 2^30, and no side of x is 0
// where y has elements. T = float, bf16, double (CPU).
template <class T>
void resize_bilinear_forward(Cpu, const ResizeShape& shape, T* y, const T* x);
template <class T>
void resize_bilinear_forward(Cuda, const ResizeShape& shape, T* y, const T* x);

// Every element of dx is written.
template <class T>
void resize_bilinear_backward(Cpu, const ResizeShape& shape, T* dx, const T* dy);
template <class T>
void resize_bilinear_backward(Cuda, const ResizeShape& shape, T* dx, const T* dy);

}  // namespace qfm
