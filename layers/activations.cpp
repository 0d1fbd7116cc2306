#include "layers/activations.h"

#include "engine/dispatch.h"
#include "kernels/pointwise/elementwise.h"
#include "kernels/pointwise/gelu.h"
#include "kernels/reduce/softmax.h"

namespace qfm {

Var gelu(const Var& x) {
  const Tensor y = like(x.value);
  dispatch({"gelu", 0, 2.0 * static_cast<double>(y.bytes())}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    gelu_forward<T>(dev, ptr<T>(y), ptr<const T>(x.value), y.numel());
  });
  return record("gelu", y, {x}, [xv = x.value](const Tensor& dy) -> Grads {
    const Tensor dx = like(xv);
    dispatch({"gelu.backward", 0, 3.0 * static_cast<double>(dx.bytes())}, xv, [&](auto dev, auto t) {
      using T = decltype(t);
      gelu_backward<T>(dev, ptr<T>(dx), ptr<const T>(dy), ptr<const T>(xv), dx.numel());
    });
    return {dx};
  });
}

Var sigmoid(const Var& x) {
  const Tensor y = like(x.value);
  dispatch({"sigmoid", 0, 2.0 * static_cast<double>(y.bytes())}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    sigmoid_forward<T>(dev, ptr<T>(y), ptr<const T>(x.value), y.numel());
  });
  return record("sigmoid", y, {x}, [y](const Tensor& dy) -> Grads {
    const Tensor dx = like(y);
    dispatch({"sigmoid.backward", 0, 3.0 * static_cast<double>(dx.bytes())}, y, [&](auto dev, auto t) {
      using T = decltype(t);
      sigmoid_backward<T>(dev, ptr<T>(dx), ptr<const T>(dy), ptr<const T>(y), dx.numel());
    });
    return {dx};
  });
}

Var softmax(const Var& x) {
  const auto m = as_matrix(x.value);
  const Tensor y = like(x.value);
  dispatch({"softmax", 0, 2.0 * static_cast<double>(y.bytes())}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    softmax_forward<T>(dev, ptr<T>(y), ptr<const T>(x.value), m.rows, m.cols);
  });
  return record("softmax", y, {x}, [m, y](const Tensor& dy) -> Grads {
    const Tensor dx = like(y);
    dispatch({"softmax.backward", 0, 3.0 * static_cast<double>(dx.bytes())}, y, [&](auto dev, auto t) {
      using T = decltype(t);
      softmax_backward<T>(dev, ptr<T>(dx), ptr<const T>(dy), ptr<const T>(y), m.rows, m.cols);
    });
    return {dx};
  });
}

Var cast(const Var& x, DType dtype) {
  if (x.value.dtype() == dtype) return x;
  return record("cast", x.value.to(dtype), {x},
                [from = x.value.dtype()](const Tensor& dy) -> Grads { return {dy.to(from)}; });
}

Var gate(const Var& x, const Var& g) {
  const int64_t tokens = x.value.rank() == 3 ? x.dim(1) : 1;
  QFM_CHECK(g.value.rank() == 2 && x.dim(0) == g.dim(0) && x.dim(-1) == g.dim(1) && x.value.rank() <= 3,
            "gate: x is ", x.shape(), ", g is ", g.shape());
  const Tensor y = like(x.value);
  dispatch({"gate", 0, 2.0 * static_cast<double>(y.bytes())}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    gate_forward<T>(dev, ptr<T>(y), ptr<const T>(x.value), ptr<const T>(g.value), g.dim(0), tokens, g.dim(1));
  });
  return record("gate", y, {x, g}, [tokens, xv = x.value, gv = g.value](const Tensor& dy) -> Grads {
    const Tensor dx = like(xv), dg = like(gv);
    dispatch({"gate.backward", 0, 3.0 * static_cast<double>(dx.bytes())}, xv, [&](auto dev, auto t) {
      using T = decltype(t);
      gate_backward<T>(dev, ptr<T>(dx), ptr<T>(dg), ptr<const T>(dy), ptr<const T>(xv), ptr<const T>(gv),
                       gv.dim(0), tokens, gv.dim(1));
    });
    return {dx, dg};
  });
}

}  // namespace qfm
