// Bilinear resize and sampling of images (B, C, H, W).
#pragma once
#include "engine/autograd.h"
#include "kernels/sampling/sample_bilinear.h"

namespace qfm {

// To (B, C, height, width), as torch.nn.functional.interpolate(mode="bilinear"). Throws Error for an empty result.
//   y = the four neighbours of each place by their nearness; dx = sum of dy by the same weights
Var resize_bilinear(const Var& x, int64_t height, int64_t width, bool align_corners = false);

// At the places grid (B, h, w, 2), (x, y) in [-1, 1], in the accumulation type of x -> (B, C, h, w), as
// torch.nn.functional.grid_sample; both are differentiated. A NaN coordinate throws Error on the CPU and gives NaN on
// CUDA, where looking would mean waiting.
//   y = the four neighbours of each place by their nearness; dx = sum of dy by the same weights,
//     dgrid = dy times the slope of x there
Var sample_bilinear(const Var& x, const Var& grid, SamplePadding padding, bool align_corners = false);

}  // namespace qfm
