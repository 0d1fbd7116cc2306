// Arithmetic without history, for what objectives keep count of on the device: tensors of one dtype, which broadcast.
#pragma once
#include "layers/pointwise.h"
#include "layers/reduce.h"

namespace qfm {

inline Tensor plus(const Tensor& a, const Tensor& b) { return map("statistics", fn::Add{}, a, b); }
inline Tensor minus(const Tensor& a, const Tensor& b) { return map("statistics", fn::Subtract{}, a, b); }
inline Tensor times(const Tensor& a, const Tensor& b) { return map("statistics", fn::Multiply{}, a, b); }
inline Tensor over(const Tensor& a, const Tensor& b) { return map("statistics", fn::Divide{}, a, b); }
// factor x + term
inline Tensor affine(const Tensor& x, double factor, double term = 0) {
  return map("statistics", fn::Affine{factor, term}, x);
}
// A number on the device of x, in its dtype: no copy from the host.
inline Tensor constant_like(const Tensor& x, const Shape& shape, double value) {
  return affine(Tensor::zeros(shape, x.dtype(), x.device()), 0, value);
}
inline Tensor sum_of(const Tensor& x, const Shape& shape) { return sum_to(x, shape, x.dtype()); }

}  // namespace qfm
