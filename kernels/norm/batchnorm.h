// Batch normalisation of images (B, C, H, W) (Ioffe and Szegedy 2015; torch.nn.functional.batch_norm), per channel c
// over its n = B H W elements, with what follows it in a network:
//   y = activation(v),  v = gain[c] xhat + bias[c] + residual,  xhat = (x - mean[c]) rstd[c],
//   rstd = 1 / sqrt(var + eps), var biased
// The residual, an image like x, may be null. Statistics and sums are taken in an order fixed by the shape, merged in
// double; the variance is that of deviations, so channels far from zero keep their digits.
#pragma once
#include <cstdint>

#include "engine/base/dtype.h"
#include "engine/memory/device.h"
#include "kernels/common/activation.h"

namespace qfm {

struct BatchNormShape {
  int64_t batch, channels, places;  // places: height x width
  double eps;
  Activation activation = Activation::None;
  bool fixed = false;  // mean and rstd are constants, as running statistics are: asked by the backward
};

// mean, rstd (channels), written: what the backward needs. running_mean, running_var (channels) move by `momentum`
// towards the batch's mean and unbiased variance (of one element: biased); null: left alone. T = float, bf16,
// double (CPU).
template <class T>
void batchnorm_forward(Cpu, const BatchNormShape& shape, T* y, acc<T>* mean, acc<T>* rstd,
                       float* running_mean, float* running_var, double momentum, const T* x,
                       const T* residual, const T* gain, const T* bias);
template <class T>
void batchnorm_forward(Cuda, const BatchNormShape& shape, T* y, acc<T>* mean, acc<T>* rstd,
                       float* running_mean, float* running_var, double momentum, const T* x,
                       const T* residual, const T* gain, const T* bias);

// With dv = dy activation'(v): dgain = sum dv xhat, dbias = sum dv, dresidual = dv,
//   dx = gain rstd (dv - (dbias + xhat dgain) / n) or, with fixed statistics, gain rstd dv
// dgain, dbias (channels) are overwritten. Without a residual dresidual is null; without an activation it may be (it
// would be dy).
template <class T>
void batchnorm_backward(Cpu, const BatchNormShape& shape, T* dx, T* dresidual, acc<T>* dgain, acc<T>* dbias,
                        const T* dy, const T* x, const T* residual, const T* gain, const T* bias,
                        const acc<T>* mean, const acc<T>* rstd);
template <class T>
void batchnorm_backward(Cuda, const BatchNormShape& shape, T* dx, T* dresidual, acc<T>* dgain, acc<T>* dbias,
                        const T* dy, const T* x, const T* residual, const T* gain, const T* bias,
                        const acc<T>* mean, const acc<T>* rstd);

// With fixed statistics v = scale[c] x + shift[c] + residual:
//   scale = gain rstd, shift = bias - running_mean scale, rstd = 1 / sqrt(running_var + eps)
// mean, rstd (channels), null where no backward follows: the running statistics as batchnorm_backward takes them.
template <class T>
void batchnorm_fold(Cpu, int64_t channels, double eps, acc<T>* scale, acc<T>* shift, acc<T>* mean,
                    acc<T>* rstd, const T* gain, const T* bias, const float* running_mean,
                    const float* running_var);
template <class T>
void batchnorm_fold(Cuda, int64_t channels, double eps, acc<T>* scale, acc<T>* shift, acc<T>* mean,
                    acc<T>* rstd, const T* gain, const T* bias, const float* running_mean,
                    const float* running_var);
template <class T>
void scale_shift_forward(Cpu, const BatchNormShape& shape, T* y, const T* x, const T* residual,
                         const acc<T>* scale, const acc<T>* shift);
template <class T>
void scale_shift_forward(Cuda, const BatchNormShape& shape, T* y, const T* x, const T* residual,
                         const acc<T>* scale, const acc<T>* shift);

}  // namespace qfm
