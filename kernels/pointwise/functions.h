// Functions of single numbers, each written once for double (the reference), float (CUDA) and a vector of floats
// (common/simd.h). A map (map.h) applies them to tensors.
//
// A new one is a struct here and its name in QFM_UNARY_FUNCTIONS at the end; layers/pointwise.h gives it to Vars. `derivative` gets
// dy and what was saved: the output y where from_output, else the input x.
#pragma once
#include "kernels/pointwise/number.h"

namespace qfm::fn {

struct Relu {
  static constexpr const char *name = "relu", *formula = "max(x, 0)", *gradient = "dy where x > 0, else 0";
  static constexpr bool from_output = false;
  template <class V>
  QFM_HD V operator()(V x) const {
    return max(number(x, 0), x);
  }
  template <class V>
  QFM_HD V derivative(V dy, V x) const {
    return where_positive(x, dy, number(x, 0));
  }
};

struct Relu6 {
  static constexpr const char *name = "relu6", *formula = "min(max(x, 0), 6)", *gradient = "dy where 0 < x < 6, else 0";
  static constexpr bool from_output = false;
  template <class V>
  QFM_HD V operator()(V x) const {
    return min(number(x, 6), Relu()(x));
  }
  template <class V>
  QFM_HD V derivative(V dy, V x) const {
    return where_positive(number(x, 6) - x, Relu().derivative(dy, x), number(x, 0));
  }
};

struct LeakyRelu {
  static constexpr const char *name = "leaky_relu", *formula = "x where x > 0, else slope x",
                              *gradient = "dy where x > 0, else slope dy";
  static constexpr bool from_output = false;
  double slope = 0.01;
  template <class V>
  QFM_HD V operator()(V x) const {
    return where_positive(x, x, number(x, slope) * x);
  }
  template <class V>
  QFM_HD V derivative(V dy, V x) const {
    return where_positive(x, dy, number(x, slope) * dy);
  }
};

struct Sigmoid {
  static constexpr const char *name = "sigmoid", *formula = "1 / (1 + exp(-x))", *gradient = "dy y (1 - y)";
  static constexpr bool from_output = true;
  template <class V>
  QFM_HD V operator()(V x) const {
    return number(x, 1) / (number(x, 1) + exp(number(x, 0) - x));
  }
  template <class V>
  QFM_HD V derivative(V dy, V y) const {
    return dy * y * (number(y, 1) - y);
  }
};

struct Silu {
  static constexpr const char *name = "silu", *formula = "x s, s = sigmoid(x)", *gradient = "dy s (1 + x (1 - s))";
  static constexpr bool from_output = false;
  template <class V>
  QFM_HD V operator()(V x) const {
    return x * Sigmoid()(x);
  }
  template <class V>
  QFM_HD V derivative(V dy, V x) const {
    const V s = Sigmoid()(x);
    return dy * s * (number(x, 1) + x * (number(x, 1) - s));
  }
};

struct Gelu {
  static constexpr const char *name = "gelu", *formula = "x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2",
                              *gradient = "dy (Phi(x) + x phi(x)), phi(x) = exp(-x^2 / 2) / sqrt(2 pi)";
  static constexpr bool from_output = false;
  template <class V>
  QFM_HD V operator()(V x) const {
    return gelu(x);
  }
  template <class V>
  QFM_HD V derivative(V dy, V x) const {
    return dy * gelu_grad(x);
  }
};

struct QuickGelu {
  static constexpr const char *name = "quick_gelu", *formula = "x s, s = sigmoid(1.702 x)",
                              *gradient = "dy s (1 + 1.702 x (1 - s))";
  static constexpr bool from_output = false;
  template <class V>
  QFM_HD V operator()(V x) const {
    return x * Sigmoid()(number(x, 1.702) * x);
  }
  template <class V>
  QFM_HD V derivative(V dy, V x) const {
    const V scaled = number(x, 1.702) * x, s = Sigmoid()(scaled);
    return dy * s * (number(x, 1) + scaled * (number(x, 1) - s));
  }
};

struct Tanh {
  static constexpr const char *name = "tanh", *formula = "tanh(x)", *gradient = "dy (1 - y^2)";
  static constexpr bool from_output = true;
  template <class V>
  QFM_HD V operator()(V x) const {
    return tanh(x);
  }
  template <class V>
  QFM_HD V derivative(V dy, V y) const {
    return dy * (number(y, 1) - y * y);
  }
};

struct Exp {
  static constexpr const char *name = "exp", *formula = "exp(x)", *gradient = "dy y";
  static constexpr bool from_output = true;
  template <class V>
  QFM_HD V operator()(V x) const {
    return exp(x);
  }
  template <class V>
  QFM_HD V derivative(V dy, V y) const {
    return dy * y;
  }
};

struct Log {
  static constexpr const char *name = "log", *formula = "ln(x)", *gradient = "dy / x";
  static constexpr bool from_output = false;
  template <class V>
  QFM_HD V operator()(V x) const {
    return log(x);
  }
  template <class V>
  QFM_HD V derivative(V dy, V x) const {
    return dy / x;
  }
};

struct Sqrt {
  static constexpr const char *name = "sqrt", *formula = "sqrt(x)", *gradient = "dy / (2 y)";
  static constexpr bool from_output = true;
  template <class V>
  QFM_HD V operator()(V x) const {
    return sqrt(x);
  }
  template <class V>
  QFM_HD V derivative(V dy, V y) const {
    return number(y, 0.5) * dy / y;
  }
};

struct Erf {
  static constexpr const char *name = "erf", *formula = "2 / sqrt(pi) integral of exp(-t^2) over 0..x",
                              *gradient = "dy 2 / sqrt(pi) exp(-x^2)";
  static constexpr bool from_output = false;
  template <class V>
  QFM_HD V operator()(V x) const {
    return erf(x);
  }
  template <class V>
  QFM_HD V derivative(V dy, V x) const {
    return dy * number(x, 1.1283791670955126) * exp(number(x, 0) - x * x);
  }
};

#define QFM_UNARY_FUNCTIONS(X) \
  X(Relu) X(Relu6) X(LeakyRelu) X(Sigmoid) X(Silu) X(Gelu) X(QuickGelu) X(Tanh) X(Exp) X(Log) X(Sqrt) X(Erf)

// dx of a unary function, from dy and what it saved.
template <class F>
struct Derivative {
  F f;
  template <class V>
  QFM_HD V operator()(V dy, V saved) const {
    return f.derivative(dy, saved);
  }
};

// y = factor x + term, y = x / divisor: with numbers that are known when it is called.
struct Affine {
  double factor = 1, term = 0;
  template <class V>
  QFM_HD V operator()(V x) const {
    return number(x, factor) * x + number(x, term);
  }
};

struct DivideBy {
  double divisor = 1;
  template <class V>
  QFM_HD V operator()(V x) const {
    return x / number(x, divisor);
  }
};

struct Add {
  template <class V>
  QFM_HD V operator()(V a, V b) const {
    return a + b;
  }
};
struct Subtract {
  template <class V>
  QFM_HD V operator()(V a, V b) const {
    return a - b;
  }
};
struct Multiply {
  template <class V>
  QFM_HD V operator()(V a, V b) const {
    return a * b;
  }
};
struct Divide {
  template <class V>
  QFM_HD V operator()(V a, V b) const {
    return a / b;
  }
};
// 1 where a equals b, else 0.
struct Equal {
  template <class V>
  QFM_HD V operator()(V a, V b) const {
    const V zero = number(a, 0), apart = a - b;
    return where_positive(apart, zero, where_positive(zero - apart, zero, number(a, 1)));
  }
};

// QFM_MAP_ONE(function, how many numbers it takes) of all that a map can apply: X.cpp, X_simd.cpp and X.cu instantiate them.
#define QFM_MAP_UNARY(F) QFM_MAP_ONE(F, 1) QFM_MAP_ONE(Derivative<fn::F>, 2)
#define QFM_MAP_FUNCTIONS                                                                              \
  QFM_UNARY_FUNCTIONS(QFM_MAP_UNARY)                                                                   \
  QFM_MAP_ONE(Affine, 1) QFM_MAP_ONE(DivideBy, 1)                                                      \
  QFM_MAP_ONE(Add, 2) QFM_MAP_ONE(Subtract, 2) QFM_MAP_ONE(Multiply, 2) QFM_MAP_ONE(Divide, 2)         \
  QFM_MAP_ONE(Equal, 2)

}  // namespace qfm::fn

namespace qfm {

// What a map reads.
template <class T, int inputs>
struct MapInputs {
  static constexpr int count = inputs;
  const T* at[inputs];
};

}  // namespace qfm
