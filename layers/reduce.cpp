#include "layers/reduce.h"

#include "engine/dispatch.h"
#include "kernels/reduce/reduce.h"
#include "kernels/reduce/softmax.h"
#include "layers/pointwise.h"
#include "layers/shape.h"

namespace qfm {
namespace {

using Dims = std::vector<int64_t>;

// Which axes go.
std::vector<bool> marked(const char* name, const Shape& shape, const Axes& axes) {
  std::vector<bool> gone(static_cast<size_t>(shape.rank()), axes.empty());
  for (const int axis : axes) {
    const int at = axis < 0 ? axis + shape.rank() : axis;
    QFM_CHECK(at >= 0 && at < shape.rank(), name, ": ", shape, " has no axis ", axis);
    QFM_CHECK(!gone[static_cast<size_t>(at)], name, ": axis ", axis, " is named twice");
    gone[static_cast<size_t>(at)] = true;
  }
  return gone;
}

Shape reduced_shape(const Shape& shape, const std::vector<bool>& gone, bool keep) {
  Dims dims;
  for (size_t d = 0; d < gone.size(); ++d)
    if (!gone[d]) dims.push_back(shape[static_cast<int>(d)]);
    else if (keep) dims.push_back(1);
  if (dims.empty()) dims.push_back(1);
  return Shape(dims);
}

// Each run of neighbouring axes is one reduction of (outer, count, inner): f(shape of the result, reduction) for all of them,
// the last run first.
template <class F>
void for_runs(const Shape& shape, const std::vector<bool>& gone, F&& f) {
  Dims dims(shape.begin(), shape.end());
  for (size_t end = dims.size(); end > 0;) {
    if (!gone[end - 1] || dims[end - 1] == 1) {
      --end;
      continue;
    }
    ReduceShape r{1, 1, 1};
    for (size_t d = end; d < dims.size(); ++d) r.inner *= dims[d];
    for (; end > 0 && gone[end - 1]; --end) r.count *= std::exchange(dims[end - 1], 1);
    for (size_t d = 0; d < end; ++d) r.outer *= dims[d];
    f(Shape(dims), r);
  }
}

Tensor sum_run(const Tensor& x, const Tensor& factor, const Shape& shape, ReduceShape r, DType dtype, double divisor) {
  const Tensor y(shape, dtype, x.device());
  dispatch({"sum", 0, static_cast<double>(x.bytes() + factor.bytes())}, x, [&](auto dev, auto t) {
    using T = decltype(t);
    const T *from = ptr<const T>(x), *times = ptr_or_null<const T>(factor);
    if (dtype == acc_of(x.dtype())) reduce_sum(dev, r, ptr<acc<T>>(y), from, times, divisor);
    else reduce_sum(dev, r, ptr<T>(y), from, times, divisor);
  });
  return y;
}

// Several runs pass their sums on in the accumulation type.
Tensor sum_marked(Tensor x, const std::vector<bool>& gone, DType dtype, double divisor, Tensor factor = {}) {
  const Shape shape = x.shape();
  const DType full = acc_of(x.dtype());
  int runs = 0;
  for_runs(shape, gone, [&](const Shape&, ReduceShape) { ++runs; });
  const bool alone = runs == 1;
  for_runs(shape, gone, [&](const Shape& to, ReduceShape r) {
    x = sum_run(x, factor, to, r, alone ? dtype : full, --runs == 0 ? divisor : 1);
    factor = {};
  });
  if (!factor.empty()) x = map("sum", fn::Multiply{}, x, factor);
  return x.to(dtype);
}

Var sum_var(const char* name, const Var& x, const Axes& axes, bool keep, bool mean) {
  const auto gone = marked(name, x.shape(), axes);
  const Shape kept = reduced_shape(x.shape(), gone, true), shape = reduced_shape(x.shape(), gone, keep);
  const double n = mean ? static_cast<double>(x.value.numel()) / static_cast<double>(kept.numel()) : 1;
  QFM_CHECK(n >= 1, name, ": ", x.shape(), " has nothing to take the mean of");
  const Tensor y = sum_marked(x.value, gone, x.value.dtype(), n).reshape(shape);
  return record(name, y, {x}, [n, kept, from = x.shape(), type = x.grad_dtype(), name](const Tensor& dy) -> Grads {
    const Tensor share = n == 1 ? dy : map(name, fn::DivideBy{n}, dy);
    return {expand(share.reshape(kept), from).to(type)};
  });
}

}  // namespace

Var sum(const Var& x, const Axes& axes, bool keep) { return sum_var("sum", x, axes, keep, false); }
Var mean(const Var& x, const Axes& axes, bool keep) { return sum_var("mean", x, axes, keep, true); }

Var max(const Var& x, const Axes& axes, bool keep) {
  const auto gone = marked("max", x.shape(), axes);
  const Shape kept = reduced_shape(x.shape(), gone, true);
  Tensor y = x.value;
  for_runs(x.shape(), gone, [&](const Shape& to, ReduceShape r) {
    QFM_CHECK(r.count > 0, "max: ", x.shape(), " has nothing to take the maximum of");
    const Tensor most = like(y, to);
    dispatch({"max", 0, static_cast<double>(y.bytes())}, y, [&](auto dev, auto t) {
      using T = decltype(t);
      reduce_max(dev, r, ptr<T>(most), ptr<const T>(y));
    });
    y = most;
  });
  return record("max", y.reshape(reduced_shape(x.shape(), gone, keep)), {x},
                [kept, y = y.reshape(kept), xv = x.value, type = x.grad_dtype()](const Tensor& dy) -> Grads {
                  const Tensor at = map("max", fn::Equal{}, xv, y);
                  const Tensor share = map("max", fn::Divide{}, dy.reshape(kept), sum_to(at, kept, dy.dtype()));
                  return {map("max", fn::Multiply{}, at, share).to(type)};
                });
}

Tensor sum_to(const Tensor& x, const Shape& shape, DType dtype, const Tensor& factor) {
  const int missing = x.rank() - shape.rank();
  std::vector<bool> gone(static_cast<size_t>(x.rank()));
  for (int d = 0; d < x.rank(); ++d)
    gone[static_cast<size_t>(d)] = d < missing || (shape[d - missing] == 1 && x.dim(d) != 1);
  return sum_marked(x, gone, dtype, 1, factor).reshape(shape);
}

Var softmax(const Var& x) {
  const auto m = as_matrix(x.value);
  const Tensor y = like(x.value);
  dispatch({"softmax", 0, 2.0 * static_cast<double>(y.bytes())}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    softmax_forward<T>(dev, ptr<T>(y), ptr<const T>(x.value), m.rows, m.cols);
  });
  return record("softmax", y, {x}, [m, y, type = x.grad_dtype()](const Tensor& dy) -> Grads {
    const Tensor dx = like(y);
    dispatch({"softmax.backward", 0, 3.0 * static_cast<double>(dx.bytes())}, y, [&](auto dev, auto t) {
      using T = decltype(t);
      softmax_backward<T>(dev, ptr<T>(dx), ptr<const T>(dy), ptr<const T>(y), m.rows, m.cols);
    });
    return {dx.to(type)};
  });
}

}  // namespace qfm
