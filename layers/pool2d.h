// Pooling of images (B, C, H, W).
#pragma once
#include "engine/autograd.h"
#include "kernels/pool/pool2d.h"

namespace qfm {

// Throw Error for a window larger than the padded image, and for padding of more than half a window.
Var max_pool2d(const Var& x, const Window& y, const Window& w);
Var mean_pool2d(const Var& x, const Window& y, const Window& w, bool count_padding = true);
Var adaptive_mean_pool2d(const Var& x, int64_t out_height, int64_t out_width);

}  // namespace qfm
