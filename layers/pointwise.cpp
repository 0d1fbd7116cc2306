#include "layers/pointwise.h"

#include "engine/dispatch.h"
#include "kernels/pointwise/map.h"
#include "layers/reduce.h"

namespace qfm {
namespace {

template <int inputs, class F>
Tensor run_map(const char* name, const F& f, const Tensor& y, const std::array<Tensor, inputs>& x) {
  std::array<std::span<const int64_t>, inputs> shapes;
  double bytes = static_cast<double>(y.bytes());
  for (size_t k = 0; k < inputs; ++k) {
    shapes[k] = {x[k].shape().begin(), x[k].shape().end()};
    bytes += static_cast<double>(x[k].bytes());
  }
  const auto space = broadcast_space<inputs>({y.shape().begin(), y.shape().end()}, shapes);
  dispatch({name, 0, bytes}, y, [&](auto dev, auto t) {
    using T = decltype(t);
    MapInputs<T, inputs> at;
    for (size_t k = 0; k < inputs; ++k) at.at[k] = ptr<const T>(x[k]);
    map(dev, f, space, ptr<T>(y), at);
  });
  return y;
}

// The gradient of an operand: what it gave to y, summed over where it was repeated.
Tensor operand_grad(const Tensor& d, const Shape& shape, DType dtype) { return sum_to(d, shape, dtype); }

// The same for d = dy factor. Where whole dy and factor are only summed, their product is not stored.
Tensor product_grad(const char* name, const Tensor& dy, const Tensor& factor, const Shape& shape, DType dtype) {
  if (shape == dy.shape() || factor.shape() != dy.shape())
    return operand_grad(map(name, fn::Multiply{}, dy, factor), shape, dtype);
  return sum_to(dy, shape, dtype, factor);
}

}  // namespace

Shape broadcast_shape(const char* name, const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  std::vector<int64_t> dims(static_cast<size_t>(rank));
  for (int d = 1; d <= rank; ++d) {
    const int64_t i = d <= a.rank() ? a[-d] : 1, j = d <= b.rank() ? b[-d] : 1;
    QFM_CHECK(i == j || i == 1 || j == 1, name, ": ", a, " and ", b, " do not broadcast");
    dims[static_cast<size_t>(rank - d)] = i == 1 ? j : i;
  }
  return Shape(dims);
}

template <class F>
Tensor map(const char* name, const F& f, const Tensor& x) {
  return run_map<1>(name, f, like(x), {x});
}
template <class F>
Tensor map(const char* name, const F& f, const Tensor& a, const Tensor& b) {
  QFM_CHECK(a.dtype() == b.dtype() && a.device() == b.device(), name, ": operands are ", name_of(a.dtype()), " on ",
            name_of(a.device()), " and ", name_of(b.dtype()), " on ", name_of(b.device()));
  return run_map<2>(name, f, like(a, broadcast_shape(name, a.shape(), b.shape())), {a, b});
}
#define QFM_INSTANTIATE(F) template Tensor map(const char*, const fn::F&, const Tensor&, const Tensor&);
QFM_INSTANTIATE(Add)
QFM_INSTANTIATE(Subtract)
QFM_INSTANTIATE(Multiply)
QFM_INSTANTIATE(Divide)
QFM_INSTANTIATE(Equal)
#undef QFM_INSTANTIATE
template Tensor map(const char*, const fn::Affine&, const Tensor&);
template Tensor map(const char*, const fn::DivideBy&, const Tensor&);

template <class F>
Var pointwise(const F& f, const Var& x) {
  const Tensor y = map(F::name, f, x.value);
  return record(F::name, y, {x}, [f, saved = F::from_output ? y : x.value, type = x.grad_dtype()](const Tensor& dy) -> Grads {
    return {map(F::name, fn::Derivative<F>{f}, dy, saved).to(type)};
  });
}
#define QFM_INSTANTIATE(F)                       \
  template Var pointwise(const fn::F&, const Var&); \
  template Tensor map(const char*, const fn::F&, const Tensor&);
QFM_UNARY_FUNCTIONS(QFM_INSTANTIATE)
#undef QFM_INSTANTIATE

Var affine(const Var& x, double factor, double term) {
  return record("affine", map("affine", fn::Affine{factor, term}, x.value), {x},
                [factor, type = x.grad_dtype()](const Tensor& dy) -> Grads {
                  return {map("affine", fn::Affine{factor, 0}, dy).to(type)};
                });
}

Var operator/(const Var& x, double divisor) {
  return record("divide", map("divide", fn::DivideBy{divisor}, x.value), {x},
                [divisor, type = x.grad_dtype()](const Tensor& dy) -> Grads {
                  return {map("divide", fn::DivideBy{divisor}, dy).to(type)};
                });
}

Var operator+(const Var& a, const Var& b) {
  return record("add", map("add", fn::Add{}, a.value, b.value), {a, b},
                [as = a.shape(), bs = b.shape(), at = a.grad_dtype(), bt = b.grad_dtype(), a_needs = a.needs_grad(),
                 b_needs = b.needs_grad()](const Tensor& dy) -> Grads {
                  return {a_needs ? operand_grad(dy, as, at) : Tensor(), b_needs ? operand_grad(dy, bs, bt) : Tensor()};
                });
}

Var operator-(const Var& a, const Var& b) {
  return record("subtract", map("subtract", fn::Subtract{}, a.value, b.value), {a, b},
                [as = a.shape(), bs = b.shape(), at = a.grad_dtype(), bt = b.grad_dtype(), a_needs = a.needs_grad(),
                 b_needs = b.needs_grad()](const Tensor& dy) -> Grads {
                  return {a_needs ? operand_grad(dy, as, at) : Tensor(),
                          b_needs ? map("subtract", fn::Affine{-1, 0}, operand_grad(dy, bs, bt)) : Tensor()};
                });
}

Var operator*(const Var& a, const Var& b) {
  return record("multiply", map("multiply", fn::Multiply{}, a.value, b.value), {a, b},
                [av = a.value, bv = b.value, at = a.grad_dtype(), bt = b.grad_dtype(), a_needs = a.needs_grad(),
                 b_needs = b.needs_grad()](const Tensor& dy) -> Grads {
                  return {a_needs ? product_grad("multiply", dy, bv, av.shape(), at) : Tensor(),
                          b_needs ? product_grad("multiply", dy, av, bv.shape(), bt) : Tensor()};
                });
}

Var operator/(const Var& a, const Var& b) {
  const Tensor y = map("divide", fn::Divide{}, a.value, b.value);
  return record("divide", y, {a, b},
                [y, as = a.shape(), bv = b.value, at = a.grad_dtype(), bt = b.grad_dtype(), a_needs = a.needs_grad(),
                 b_needs = b.needs_grad()](const Tensor& dy) -> Grads {
                  const Tensor da = map("divide", fn::Divide{}, dy, bv);
                  Tensor db;
                  if (b_needs) db = map("divide", fn::Affine{-1, 0}, product_grad("divide", da, y, bv.shape(), bt));
                  return {a_needs ? operand_grad(da, as, at) : Tensor(), db};
                });
}

Var cast(const Var& x, DType dtype) {
  if (x.value.dtype() == dtype) return x;
  return record("cast", x.value.to(dtype), {x},
                [type = x.grad_dtype()](const Tensor& dy) -> Grads { return {dy.to(type)}; });
}

}  // namespace qfm
