#include "layers/layernorm.h"

#include "engine/dispatch.h"
#include "engine/packed_weight.h"
#include "kernels/norm/layernorm.h"

namespace qfm {

namespace {

// Without history: {sum, y}. No x: the sum is the residual.
ResidualNorm quantised_norm(const Var& x, const Var& gamma, const Var& residual, const Var& w, const Var& b,
                            double eps) {
  const auto m = as_matrix(residual.value);
  std::vector<int64_t> dims(residual.shape().begin(), residual.shape().end());
  dims.back() = int8_row_bytes(m.cols);
  const bool has_x = !x.value.empty();
  const Tensor y(Shape(dims), DType::U8), sum = has_x ? like(residual.value) : residual.value;
  const ProfileScope scope({has_x ? "residual_layernorm.int8" : "layernorm.int8", 0,
                            static_cast<double>(y.bytes() + (has_x ? 3 : 1) * sum.bytes())});
  if (has_x)
    residual_sum(Cpu{}, ptr<float>(sum), ptr<const float>(x.value), ptr_or_null<const float>(gamma.value),
                 ptr<const float>(residual.value), m.rows, m.cols);
  layernorm_forward(Cpu{}, ptr<uint8_t>(y), ptr<const float>(sum), ptr<const float>(w.value), ptr<const float>(b.value),
                    m.rows, m.cols, eps);
  return {Var(sum), Var(y)};
}

}  // namespace

Var layernorm(const Var& x, const Var& w, const Var& b, double eps, const Tensor& reader) {
  const auto m = as_matrix(x.value);
  QFM_CHECK(w.shape() == Shape{m.cols} && b.shape() == Shape{m.cols}, "layernorm: x is ", x.shape(),
            ", w is ", w.shape(), ", b is ", b.shape());
  if (reads_int8(reader) && !needs_graph({&x, &w, &b})) return quantised_norm({}, {}, x, w, b, eps).y;
  const Tensor y = like(x.value), mean = acc_like(x.value, {m.rows}), rstd = acc_like(x.value, {m.rows});
  const auto bytes = static_cast<double>(y.bytes());
  dispatch({"layernorm", 0, 2 * bytes}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    layernorm_forward<T>(dev, ptr<T>(y), ptr<acc<T>>(mean), ptr<acc<T>>(rstd), ptr<const T>(x.value),
                         ptr<const T>(w.value), ptr<const T>(b.value), m.rows, m.cols, eps);
  });
  return record("layernorm", y, {x, w, b},
                [m, bytes, mean, rstd, xv = x.value, wv = w.value](const Tensor& dy) -> Grads {
                  const Tensor dx = like(xv), dw = acc_like(xv, {m.cols}), db = acc_like(xv, {m.cols});
                  const Tensor workspace = acc_like(xv, {layernorm_workspace(m.rows, m.cols)});
                  dispatch({"layernorm.backward", 0, 3 * bytes}, xv, [&](auto dev, auto t) {
                    using T = decltype(t);
                    layernorm_backward<T>(dev, ptr<T>(dx), ptr<acc<T>>(dw), ptr<acc<T>>(db), ptr<const T>(dy),
                                          ptr<const T>(xv), ptr<const T>(wv), ptr<const acc<T>>(mean),
                                          ptr<const acc<T>>(rstd), ptr<acc<T>>(workspace), m.rows, m.cols);
                  });
                  return {dx, dw, db};
                });
}

ResidualNorm residual_layernorm(const Var& x, const Var& gamma, const Var& residual, const Var& w,
                                const Var& b, double eps, const Tensor& reader) {
  const auto m = as_matrix(residual.value);
  const bool has_x = !x.value.empty(), scaled = !gamma.value.empty();
  QFM_CHECK(w.shape() == Shape{m.cols} && b.shape() == Shape{m.cols}, "residual_layernorm: residual is ",
            residual.shape(), ", w is ", w.shape(), ", b is ", b.shape());
  QFM_CHECK(
      (!has_x || x.shape() == residual.shape()) && (!scaled || (has_x && gamma.shape() == Shape{m.cols})),
      "residual_layernorm: residual is ", residual.shape(), ", x is ", x.shape(), ", gamma is ",
      gamma.shape());
  if (reads_int8(reader) && !needs_graph({&x, &gamma, &residual, &w, &b}))
    return quantised_norm(x, gamma, residual, w, b, eps);
  const Tensor y = like(residual.value), sum = has_x ? like(residual.value) : residual.value;
  const Tensor mean = acc_like(y, {m.rows}), rstd = acc_like(y, {m.rows});
  const auto bytes = static_cast<double>(y.bytes());
  dispatch({"residual_layernorm", 0, (has_x ? 4 : 2) * bytes}, y, [&](auto dev, auto t) {
    using T = decltype(t);
    if (has_x)
      residual_layernorm_forward<T>(dev, ptr<T>(sum), ptr<T>(y), ptr<acc<T>>(mean), ptr<acc<T>>(rstd),
                                    ptr<const T>(x.value), ptr_or_null<const T>(gamma.value),
                                    ptr<const T>(residual.value), ptr<const T>(w.value),
                                    ptr<const T>(b.value), m.rows, m.cols, eps);
    else
      layernorm_forward<T>(dev, ptr<T>(y), ptr<acc<T>>(mean), ptr<acc<T>>(rstd), ptr<const T>(sum),
                           ptr<const T>(w.value), ptr<const T>(b.value), m.rows, m.cols, eps);
  });
  const auto backward = [m, bytes, has_x, scaled, mean, rstd, sum, xv = x.value, gv = gamma.value,
                         wv = w.value](const Tensor& dsum, const Tensor& dy_or_none) -> Grads {
    const Tensor dy = dy_or_none.empty() ? Tensor::zeros(sum.shape(), sum.dtype(), sum.device()) : dy_or_none;
    const Tensor dstream = like(sum), dx = scaled ? like(sum) : has_x ? dstream : Tensor();
    const Tensor dgamma = scaled ? acc_like(sum, {m.cols}) : Tensor(), dw = acc_like(sum, {m.cols}),
                 db = acc_like(sum, {m.cols});
    const double passes = 3 + (dsum.empty() ? 0 : 1) + (scaled ? 2 : 0);
    dispatch({"residual_layernorm.backward", 0, passes * bytes}, sum, [&](auto dev, auto t) {
      using T = decltype(t);
      residual_layernorm_backward<T>(dev, ptr<T>(dstream), ptr_or_null<T>(dx), ptr_or_null<acc<T>>(dgamma),
                                     ptr<acc<T>>(dw), ptr<acc<T>>(db), ptr<const T>(dy),
                                     ptr_or_null<const T>(dsum), ptr<const T>(sum), ptr_or_null<const T>(xv),
                                     ptr_or_null<const T>(gv), ptr<const T>(wv), ptr<const acc<T>>(mean),
                                     ptr<const acc<T>>(rstd), m.rows, m.cols);
    });
    return {dx, dgamma, dstream, dw, db};
  };
  auto [sum_var, y_var] = record_pair("residual_layernorm", sum, y, {x, gamma, residual, w, b}, backward);
  return {sum_var, y_var};
}

}  // namespace qfm
