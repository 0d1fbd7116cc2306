// Pooling of images (B, C, H, W).
#pragma once
#include "engine/autograd.h"
#include "kernels/pool/pool2d.h"

namespace qfm {

// `down` slides along the height, `along` along the width. Throw Error for a window larger than the padded image, for
// padding of more than half a window, and where dilation makes a window see padding only.
//   y = the largest x of each window; dx = sum of dy over the windows whose maximum it is
Var max_pool2d(const Var& x, const Window& down, const Window& along);
//   y = sum of x over each window / n; dx = sum of dy / n over its windows
Var mean_pool2d(const Var& x, const Window& down, const Window& along, bool count_padding = true);
// Output (i, j) is the mean of rows [floor(i H / out_height), ceil((i + 1) H / out_height)) and columns likewise.
//   y = the mean of each rectangle; dx = sum of dy / n over its rectangles
Var adaptive_mean_pool2d(const Var& x, int64_t out_height, int64_t out_width);

}  // namespace qfm
