#include "layers/linear.h"

#include "engine/dispatch.h"
#include "engine/packed_weight.h"
#include "kernels/gemm/gemm_int8.h"
#include "layers/reduce.h"

namespace qfm {
namespace {

Shape with_last(const Shape& shape, int64_t last) {
  std::vector<int64_t> dims(shape.begin(), shape.end());
  dims.back() = last;
  return Shape(dims);
}

Op cost(const char* name, const GemmShape& s, const Tensor& like) {
  return {
      name, s.flops(),
      static_cast<double>(s.m * s.k + s.k * s.n + s.m * s.n) * static_cast<double>(size_of(like.dtype()))};
}

Tensor int8_forward(const Tensor& x, const Tensor& w, const PackedWeight& packed, const LinearFusion& fusion) {
  const int64_t n = w.dim(0), k = w.dim(1);
  if (x.dtype() != DType::U8) return int8_forward(quantised(x), w, packed, fusion);
  const auto m = as_matrix(x);
  QFM_CHECK(m.cols == int8_row_bytes(k), "linear: x is ", x.shape(), " in eight bits, w is ", w.shape());
  const ProfileScope scope(cost("linear.int8", GemmShape{m.rows, n, k}, x));
  GemmEpilogue<float> e;
  e.bias = ptr_or_null<const float>(fusion.bias), e.residual = ptr_or_null<const float>(fusion.residual);
  e.pre_gelu = ptr_or_null<float>(fusion.pre_gelu), e.gelu = fusion.gelu;
  const auto run = [&](const Tensor& y, auto* c) {
    gemm_int8(Cpu{}, m.rows, n, k, c, ptr<const uint8_t>(x), packed.data.raw(), e);
    return y;
  };
  const bool narrow = fusion.quantised;
  const Tensor y(with_last(x.shape(), narrow ? int8_row_bytes(n) : n), narrow ? DType::U8 : DType::F32);
  return narrow ? run(y, ptr<uint8_t>(y)) : run(y, ptr<float>(y));
}

}  // namespace

Tensor quantised(const Tensor& x) {
  const auto m = as_matrix(x);
  const Tensor y(with_last(x.shape(), int8_row_bytes(m.cols)), DType::U8);
  const ProfileScope scope({"quantise", 0, static_cast<double>(x.bytes() + y.bytes())});
  quantise_tokens(Cpu{}, ptr<uint8_t>(y), ptr<const float>(x), m.rows, m.cols);
  return y;
}

Tensor linear_forward(const Tensor& x, const Tensor& w, const LinearFusion& fusion) {
  const PackedWeight* packed = x.device() == cpu_device ? packed_weight(w) : nullptr;
  if (packed && packed->int8) return int8_forward(x, w, *packed, fusion);
  const auto m = as_matrix(x);
  QFM_CHECK(w.rank() == 2 && w.dim(1) == m.cols, "linear: x is ", x.shape(), ", w is ", w.shape());
  QFM_CHECK(!packed || packed->path == cpu(), "linear: the weight was packed for ", name_of(packed->path),
            ", running ", name_of(cpu()));
  const GemmShape shape{m.rows, w.dim(0), m.cols, false, true};
  Tensor y = like(x, with_last(x.shape(), w.dim(0)));
  dispatch(cost("linear", shape, x), x, [&](auto dev, auto t) {
    using T = decltype(t);
    GemmEpilogue<T> e;
    e.bias = ptr_or_null<const T>(fusion.bias), e.residual = ptr_or_null<const T>(fusion.residual);
    e.pre_gelu = ptr_or_null<T>(fusion.pre_gelu), e.gelu = fusion.gelu;
    if constexpr (std::is_same_v<decltype(dev), Cpu>)
      if (packed) return gemm_with_packed<T>(dev, shape, ptr<T>(y), ptr<const T>(x), packed->data.raw(), e);
    gemm<T, T>(dev, shape, ptr<T>(y), ptr<const T>(x), ptr<const T>(w), e);
  });
  return y;
}

Tensor linear_dx(const Tensor& dy, const Tensor& w, const Shape& x_shape, const Tensor& gelu_input) {
  const auto m = as_matrix(dy);
  const GemmShape shape{m.rows, w.dim(1), m.cols, false, false};
  Tensor dx = like(dy, x_shape);
  dispatch(cost("linear.dx", shape, dy), dy, [&](auto dev, auto t) {
    using T = decltype(t);
    GemmEpilogue<T> e;
    e.times_gelu_grad_of = ptr_or_null<const T>(gelu_input);
    gemm<T, T>(dev, shape, ptr<T>(dx), ptr<const T>(dy), ptr<const T>(w), e);
  });
  return dx;
}

LinearGrads linear_dw(const Tensor& dy, const Tensor& x, bool with_bias) {
  const auto g = as_matrix(dy), m = as_matrix(x);
  const GemmShape shape{g.cols, m.cols, m.rows, true, false};
  const Tensor dw = acc_like(x, {g.cols, m.cols}), db = with_bias ? acc_like(x, {g.cols}) : Tensor();
  dispatch(cost("linear.dw", shape, x), x, [&](auto dev, auto t) {
    using T = decltype(t);
    GemmEpilogue<T> e;
    e.sum_a = ptr_or_null<acc<T>>(db);
    gemm<T, acc<T>>(dev, shape, ptr<acc<T>>(dw), ptr<const T>(dy), ptr<const T>(x), e);
  });
  return {dw, db};
}

Var linear(const Var& x, const Var& w, const Var& b, const Var& residual) {
  QFM_CHECK(b.value.empty() || b.shape() == Shape{w.dim(0)}, "linear: w is ", w.shape(), ", bias is ",
            b.shape());
  QFM_CHECK(residual.value.empty() || residual.shape() == with_last(x.shape(), w.dim(0)), "linear: x is ",
            x.shape(), ", w is ", w.shape(), ", residual is ", residual.shape());
  const Tensor y = linear_forward(x.value, w.value, {b.value, {}, residual.value});
  return record("linear", y, {x, w, b, residual},
                [xv = x.value, wv = w.value, x_needs = x.needs_grad(), w_needs = w.needs_grad(),
                 b_needs = b.needs_grad(), r_needs = residual.needs_grad()](const Tensor& dy) -> Grads {
                  LinearGrads d;
                  if (w_needs) d = linear_dw(dy, xv, b_needs);
                  else if (b_needs) d.bias = sum_to(dy, {dy.dim(-1)}, acc_of(dy.dtype()));
                  return {x_needs ? linear_dx(dy, wv, xv.shape()) : Tensor(), d.weight, d.bias,
                          r_needs ? dy : Tensor()};
                });
}

Linear::Linear(const Scope& scope, int64_t in, int64_t out, Init init, bool with_bias)
    : weight(scope.weight("weight", {out, in}, init)), has_bias(with_bias) {
  if (with_bias) bias = scope.vector("bias", {out}, constant(0));
}

Var Linear::operator()(const Var& x, const Var& residual) const {
  return linear(x, weight, has_bias ? static_cast<const Var&>(bias) : Var(), residual);
}

}  // namespace qfm
