// The algebra, element by element: functions of kernels/pointwise/functions.h on Vars, and the arithmetic operators, which
// broadcast as in PyTorch. All operands have one dtype. Beside them: layers/reduce.h, layers/shape.h.
#pragma once
#include "engine/autograd.h"
#include "kernels/pointwise/functions.h"

namespace qfm {

// y = f(x), any shape. For every function of QFM_UNARY_FUNCTIONS.
template <class F>
Var pointwise(const F& f, const Var& x);

inline Var relu(const Var& x) { return pointwise(fn::Relu{}, x); }
inline Var relu6(const Var& x) { return pointwise(fn::Relu6{}, x); }
inline Var leaky_relu(const Var& x, double slope = 0.01) { return pointwise(fn::LeakyRelu{slope}, x); }
inline Var sigmoid(const Var& x) { return pointwise(fn::Sigmoid{}, x); }
inline Var silu(const Var& x) { return pointwise(fn::Silu{}, x); }
inline Var gelu(const Var& x) { return pointwise(fn::Gelu{}, x); }  // the erf form
inline Var quick_gelu(const Var& x) { return pointwise(fn::QuickGelu{}, x); }  // CLIP's
inline Var tanh(const Var& x) { return pointwise(fn::Tanh{}, x); }
inline Var exp(const Var& x) { return pointwise(fn::Exp{}, x); }
inline Var log(const Var& x) { return pointwise(fn::Log{}, x); }
inline Var sqrt(const Var& x) { return pointwise(fn::Sqrt{}, x); }
inline Var erf(const Var& x) { return pointwise(fn::Erf{}, x); }

// Each gradient is summed over what was repeated. Throw Error on shapes that do not broadcast and on dtypes that differ.
//   y = a + b; da = dy, db = dy
Var operator+(const Var& a, const Var& b);
//   y = a - b; da = dy, db = -dy
Var operator-(const Var& a, const Var& b);
//   y = a b; da = dy b, db = dy a
Var operator*(const Var& a, const Var& b);
//   y = a / b; da = dy / b, db = -dy y / b
Var operator/(const Var& a, const Var& b);

//   y = factor x + term; dx = factor dy
Var affine(const Var& x, double factor, double term);
//   y = x / divisor; dx = dy / divisor
Var operator/(const Var& x, double divisor);
inline Var operator*(const Var& x, double factor) { return affine(x, factor, 0); }
inline Var operator*(double factor, const Var& x) { return affine(x, factor, 0); }
inline Var operator+(const Var& x, double term) { return affine(x, 1, term); }
inline Var operator-(const Var& x, double term) { return affine(x, 1, -term); }
inline Var operator-(const Var& x) { return affine(x, -1, 0); }

// The same numbers in another floating type, rounded to it; x itself where it has that type.
//   y = x; dx = dy in x's type
Var cast(const Var& x, DType dtype);

// Without history, for the backward of an op: f of one tensor, or of two that broadcast. F: any function of
// functions.h. name: of the op that it is done for.
template <class F>
Tensor map(const char* name, const F& f, const Tensor& x);
template <class F>
Tensor map(const char* name, const F& f, const Tensor& a, const Tensor& b);
// The shape that a and b broadcast to. Throws Error where they do not.
Shape broadcast_shape(const char* name, const Shape& a, const Shape& b);

}  // namespace qfm
