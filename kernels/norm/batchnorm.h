// Batch normalisation of images (B, C, H, W) (Ioffe and Szegedy 2015; torch.nn.functional.batch_norm), per channel c
// over its B H W elements, with the activation that follows:
//   y = activation(v),  v = gain[c] (x - mean[c]) rstd[c] + bias[c],  rstd = 1 / sqrt(var + eps), var biased
// Statistics are taken in double in an order fixed by the shape.
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
};

// mean, rstd (channels), written: what the backward needs. running_mean, running_var (channels) move by `momentum`
// towards the batch's mean and unbiased variance; null: left alone. T = float, bf16, double (CPU).
template <class T>
void batchnorm_forward(Cpu, const BatchNormShape& shape, T* y, acc<T>* mean, acc<T>* rstd, float* running_mean,
                       float* running_var, double momentum, const T* x, const T* gain, const T* bias);
template <class T>
void batchnorm_forward(Cuda, const BatchNormShape& shape, T* y, acc<T>* mean, acc<T>* rstd, float* running_mean,
                       float* running_var, double momentum, const T* x, const T* gain, const T* bias);

// Through the batch's statistics: dgain = sum dv xhat, dbias = sum dv, dx = gain rstd (dv - (dbias + xhat dgain) / n),
// dv = dy activation'(v); dgain, dbias are overwritten.
template <class T>
void batchnorm_backward(Cpu, const BatchNormShape& shape, T* dx, acc<T>* dgain, acc<T>* dbias, const T* dy, const T* x,
                        const T* gain, const T* bias, const acc<T>* mean, const acc<T>* rstd);
template <class T>
void batchnorm_backward(Cuda, const BatchNormShape& shape, T* dx, acc<T>* dgain, acc<T>* dbias, const T* dy, const T* x,
                        const T* gain, const T* bias, const acc<T>* mean, const acc<T>* rstd);

// With fixed statistics a batch normalisation is y = activation(scale[c] x + shift[c]):
//   scale = gain / sqrt(running_var + eps), shift = bias - running_mean scale
template <class T>
void batchnorm_fold(Cpu, int64_t channels, double eps, acc<T>* scale, acc<T>* shift, const T* gain, const T* bias,
                    const float* running_mean, const float* running_var);
template <class T>
void batchnorm_fold(Cuda, int64_t channels, double eps, acc<T>* scale, acc<T>* shift, const T* gain, const T* bias,
                    const float* running_mean, const float* running_var);
template <class T>
void scale_shift_forward(Cpu, const BatchNormShape& shape, T* y, const T* x, const acc<T>* scale, const acc<T>* shift);
template <class T>
void scale_shift_forward(Cuda, const BatchNormShape& shape, T* y, const T* x, const acc<T>* scale, const acc<T>* shift);

}  // namespace qfm
