// The kernels of convolutional networks at the sizes that ResNet-50 and EfficientNet-Lite0 give them on 224 x 224
// pixels; and resize and sampling at sizes of feature maps and pixels.
#pragma once
#include <vector>

#include "kernels/cases/cases.h"

namespace qfm {

std::vector<KernelCase> image_cases(int64_t batch, DType dtype);

}  // namespace qfm
