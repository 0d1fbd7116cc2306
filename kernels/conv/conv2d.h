// 2-D convolution (cross-correlation, as torch.nn.functional.conv2d), images (B, C, H, W):
//   y[b, o, i, j] = sum over c, u, v of x[b, c, y.at(i, u), x.at(j, v)] w[o, c, u, v]
// over the in_channels / groups channels c of o's group; what lies outside the image is zero.
//
// Sums are taken in acc<T>, in an order fixed by the shape: bits depend on neither the threads nor the batch that an
// image is in.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"
#include "kernels/common/activation.h"
#include "kernels/common/window.h"

namespace qfm {

struct ConvShape {
  int64_t batch, in_channels, height, width;
  int64_t out_channels, groups = 1;
  Window y, x;  // down the rows, along a row
  int64_t out_height() const { return y.positions(height); }
  int64_t out_width() const { return x.positions(width); }
  int64_t group_in() const { return in_channels / groups; }
  int64_t group_out() const { return out_channels / groups; }
  bool depthwise() const { return groups == in_channels && groups == out_channels; }
  int64_t taps() const { return y.size * x.size; }
  double flops() const {
    return 2.0 * static_cast<double>(batch * out_height() * out_width()) *
           static_cast<double>(out_channels * group_in() * taps());
  }
};

// Applied to each element in acc<T>, in this order; null members are skipped:
//   v = scale[o] v;  v += shift[o];  v += residual[b, o, i, j];  y = activation(v)
// A convolution's bias is a shift. A batch normalisation that follows is a scale and a shift where its statistics are
// fixed (kernels/norm/batchnorm.h): folded at no cost, with the weights as they are.
template <class T>
struct ConvEpilogue {
  const acc<T>* scale = nullptr;  // (out_channels)
  const acc<T>* shift = nullptr;  // (out_channels)
  const T* residual = nullptr;    // (batch, out_channels, out_height, out_width)
  Activation activation = Activation::None;
};

// x (batch, in_channels, height, width), w (out_channels, in_channels / groups, y.size, x.size), y (batch,
// out_channels, out_height, out_width). T = float, bf16, double (CPU). Sizes are valid: no empty output, groups
// divide both channels.
template <class T>
void conv2d_forward(Cpu, const ConvShape& shape, T* y, const T* x, const T* w, const ConvEpilogue<T>& epilogue = {});
template <class T>
void conv2d_forward(Cuda, const ConvShape& shape, T* y, const T* x, const T* w, const ConvEpilogue<T>& epilogue = {});

// The gradient of the image: every element of dx is written.
template <class T>
void conv2d_dx(Cpu, const ConvShape& shape, T* dx, const T* dy, const T* w);
template <class T>
void conv2d_dx(Cuda, const ConvShape& shape, T* dx, const T* dy, const T* w);

// The gradients of the weight and, unless db is null, of the shift: (out_channels), dy summed over images and places.
template <class T>
void conv2d_dw(Cpu, const ConvShape& shape, acc<T>* dw, acc<T>* db, const T* dy, const T* x);
template <class T>
void conv2d_dw(Cuda, const ConvShape& shape, acc<T>* dw, acc<T>* db, const T* dy, const T* x);

// Our own kernels, whatever the policy table. T = float, bf16.
template <class T>
void conv2d_forward_own(Cuda, const ConvShape& shape, T* y, const T* x, const T* w, const ConvEpilogue<T>& epilogue = {});
template <class T>
void conv2d_dx_own(Cuda, const ConvShape& shape, T* dx, const T* dy, const T* w);
template <class T>
void conv2d_dw_own(Cuda, const ConvShape& shape, acc<T>* dw, acc<T>* db, const T* dy, const T* x);

}  // namespace qfm
