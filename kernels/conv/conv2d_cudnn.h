// Convolutions by cuDNN, in builds that know it: without an epilogue, the three directions, BF16 and F32 (true F32
// unless QFM_TF32 says otherwise). Not yet confirmed on a GPU.
#pragma once
#include <string>

#include "kernels/conv/conv2d.h"

namespace qfm::cudnn {

enum class ConvDirection : unsigned char { Forward, Dx, Dw };

#ifdef QFM_WITH_CUDNN
// As conv2d_forward, conv2d_dx and conv2d_dw (kernels/conv/conv2d.h) if the policy table
// (kernels/vendor/kernel_policy.h) names cuDNN for the case; without a table it does not. False: our own
// kernels are to serve, as for a forward with an epilogue, a weight gradient that wants db, and what cuDNN
// has no deterministic engine for.
template <class T>
bool conv2d_forward(Cuda, const ConvShape& shape, T* y, const T* x, const T* w,
                    const ConvEpilogue<T>& epilogue);
template <class T>
bool conv2d_dx(Cuda, const ConvShape& shape, T* dx, const T* dy, const T* w);
template <class T>
bool conv2d_dw(Cuda, const ConvShape& shape, acc<T>* dw, acc<T>* db, const T* dy, const T* x);

// The same whatever the table: of y, x and w the one that the direction computes is written.
template <class T>
bool conv2d_by(Cuda, ConvDirection direction, const ConvShape& shape, const void* y, const void* x,
               const void* w);

// cuDNN's deterministic suggestions for a device described by JSON; no GPU is needed. Throws Error where it
// refuses.
size_t build_conv2d(ConvDirection direction, const ConvShape& shape, DType type,
                    const std::string& device_json);
// The case's name in a policy table.
std::string conv2d_key(ConvDirection direction, const ConvShape& shape, DType type);
#else
template <class T>
bool conv2d_forward(Cuda, const ConvShape&, T*, const T*, const T*, const ConvEpilogue<T>&) {
  return false;
}
template <class T>
bool conv2d_dx(Cuda, const ConvShape&, T*, const T*, const T*) {
  return false;
}
template <class T>
bool conv2d_dw(Cuda, const ConvShape&, acc<T>*, acc<T>*, const T*, const T*) {
  return false;
}
template <class T>
bool conv2d_by(Cuda, ConvDirection, const ConvShape&, const void*, const void*, const void*) {
  return false;
}
#endif

}  // namespace qfm::cudnn
