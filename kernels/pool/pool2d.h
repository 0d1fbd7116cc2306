// Pooling over windows of each channel of images (B, C, H, W), as torch.nn.functional: max_pool2d, avg_pool2d,
// adaptive_avg_pool2d. Padding takes no part in a maximum; a mean divides by the whole window or, unless
// count_padding, by what of it lies inside the image.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"
#include "kernels/common/window.h"

namespace qfm {

struct PoolShape {
  int64_t planes, height, width;  // planes: images x channels
  Window y, x;
  bool count_padding = true;
  int64_t out_height() const { return y.positions(height); }
  int64_t out_width() const { return x.positions(width); }
};

// y = the maximum; at = where in its plane it lies (the first where several are equal, a NaN before all others),
// null where no backward follows. T = float, bf16, double (CPU).
template <class T>
void max_pool_forward(Cpu, const PoolShape& shape, T* y, int32_t* at, const T* x);
template <class T>
void max_pool_forward(Cuda, const PoolShape& shape, T* y, int32_t* at, const T* x);
// dx[p] = sum of dy over the windows whose maximum lies at p, in the order of the windows.
template <class T>
void max_pool_backward(Cpu, const PoolShape& shape, T* dx, const T* dy, const int32_t* at);
template <class T>
void max_pool_backward(Cuda, const PoolShape& shape, T* dx, const T* dy, const int32_t* at);

template <class T>
void mean_pool_forward(Cpu, const PoolShape& shape, T* y, const T* x);
template <class T>
void mean_pool_forward(Cuda, const PoolShape& shape, T* y, const T* x);
template <class T>
void mean_pool_backward(Cpu, const PoolShape& shape, T* dx, const T* dy);
template <class T>
void mean_pool_backward(Cuda, const PoolShape& shape, T* dx, const T* dy);

// Output (i, j) is the mean of rows [floor(i H / out_h), ceil((i + 1) H / out_h)) and columns likewise.
struct AdaptivePoolShape {
  int64_t planes, height, width, out_height, out_width;
};
template <class T>
void adaptive_pool_forward(Cpu, const AdaptivePoolShape& shape, T* y, const T* x);
template <class T>
void adaptive_pool_forward(Cuda, const AdaptivePoolShape& shape, T* y, const T* x);
template <class T>
void adaptive_pool_backward(Cpu, const AdaptivePoolShape& shape, T* dx, const T* dy);
template <class T>
void adaptive_pool_backward(Cuda, const AdaptivePoolShape& shape, T* dx, const T* dy);

}  // namespace qfm
