#include "layers/tokens.h"

#include "engine/dispatch.h"
#include "kernels/pointwise/elementwise.h"
#include "kernels/reduce/reduce.h"

namespace qfm {
namespace {

void copy(const TokenCopy& shape, const Tensor& dst, const Tensor& src) {
  const double bytes = 2.0 * static_cast<double>(shape.batch * shape.count * shape.dim) *
                       static_cast<double>(size_of(dst.dtype()));
  dispatch({"copy_tokens", 0, bytes}, dst, [&](auto dev, auto t) {
    using T = decltype(t);
    copy_tokens<T>(dev, shape, ptr<T>(dst), ptr<const T>(src));
  });
}

// Sum over the first dimension of (B, ...), in the accumulation type.
Tensor sum_batch(const Tensor& x, const Shape& shape) {
  const Tensor sum = acc_like(x, shape);
  const int64_t batch = x.dim(0);
  dispatch({"sum_batch", 0, static_cast<double>(x.bytes())}, x, [&](auto dev, auto t) {
    using T = decltype(t);
    sum_rows<T>(dev, ptr<acc<T>>(sum), ptr<const T>(x), batch, batch == 0 ? 0 : x.numel() / batch);
  });
  return sum;
}

Tensor tokens_mean(const Tensor& x) {
  const Tensor y = like(x, {x.dim(0), x.dim(2)});
  dispatch({"mean_tokens", 0, static_cast<double>(x.bytes())}, x, [&](auto dev, auto t) {
    using T = decltype(t);
    mean_tokens_forward<T>(dev, ptr<T>(y), ptr<const T>(x), x.dim(0), x.dim(1), x.dim(2));
  });
  return y;
}

}  // namespace

Var concat_cls(const Var& cls, const Var& patches) {
  QFM_CHECK(patches.value.rank() == 3 && cls.shape() == Shape({1, 1, patches.dim(2)}), "concat_cls: cls is ",
            cls.shape(), ", patches are ", patches.shape());
  const int64_t b = patches.dim(0), n = patches.dim(1), d = patches.dim(2);
  const Tensor y = like(patches.value, {b, n + 1, d});
  copy({b, 1, d, n + 1, 0, 1, 0, true}, y, cls.value);
  copy({b, n, d, n + 1, 1, n, 0}, y, patches.value);
  return record("concat_cls", y, {cls, patches}, [b, n, d](const Tensor& dy) -> Grads {
    const Tensor first = like(dy, {b, 1, d}), rest = like(dy, {b, n, d});
    copy({b, 1, d, 1, 0, n + 1, 0}, first, dy);
    copy({b, n, d, n, 0, n + 1, 1}, rest, dy);
    return {sum_batch(first, {1, 1, d}), rest};
  });
}

Var slice_tokens(const Var& x, int64_t begin, int64_t end) {
  QFM_CHECK(x.value.rank() == 3 && 0 <= begin && begin <= end && end <= x.dim(1), "slice_tokens: ", x.shape(),
            " has no tokens ", begin, " to ", end);
  const int64_t b = x.dim(0), t = x.dim(1), d = x.dim(2), n = end - begin;
  const Tensor y = like(x.value, {b, n, d});
  copy({b, n, d, n, 0, t, begin}, y, x.value);
  return record("slice_tokens", y, {x}, [b, t, d, n, begin](const Tensor& dy) -> Grads {
    const Tensor dx = like(dy, {b, t, d});
    dx.fill_zero();
    copy({b, n, d, t, begin, n, 0}, dx, dy);
    return {dx};
  });
}

Var add_position(const Var& x, const Var& p) {
  QFM_CHECK(p.dim(0) == 1 && x.dim(0) * p.value.numel() == x.value.numel(), "add_position: x is ", x.shape(),
            ", p is ", p.shape());
  const Tensor y = like(x.value);
  dispatch({"add_position", 0, 2.0 * static_cast<double>(y.bytes())}, x.value, [&](auto dev, auto t) {
    using T = decltype(t);
    add_broadcast<T>(dev, ptr<T>(y), ptr<const T>(x.value), ptr<const T>(p.value), x.dim(0), p.value.numel());
  });
  return record("add_position", y, {x, p},
                [shape = p.shape(), p_needs = p.needs_grad()](const Tensor& dy) -> Grads {
                  return {dy, p_needs ? sum_batch(dy, shape) : Tensor()};
                });
}

Var add_queries(const Var& queries, const Var& cls) {
  QFM_CHECK(queries.value.rank() == 3 && queries.dim(0) == 1 && cls.value.rank() == 2 &&
                cls.dim(1) == queries.dim(2),
            "add_queries: queries are ", queries.shape(), ", cls is ", cls.shape());
  const int64_t b = cls.dim(0), j = queries.dim(1), d = cls.dim(1);
  const Tensor y = like(cls.value, {b, j, d}), repeated = like(y);
  copy({b, j, d, j, 0, j, 0, true}, y, queries.value);
  for (int64_t at = 0; at < j; ++at) copy({b, 1, d, j, at, 1, 0}, repeated, cls.value);
  dispatch({"add_queries"}, y, [&](auto dev, auto t) {
    using T = decltype(t);
    add<T>(dev, ptr<T>(y), ptr<const T>(y), ptr<const T>(repeated), y.numel());
  });
  return record("add_queries", y, {queries, cls}, [shape = queries.shape(), j](const Tensor& dy) -> Grads {
    const Tensor dcls = tokens_mean(dy);  // times j: the sum over the queries
    dispatch({"add_queries.backward"}, dcls, [&](auto dev, auto t) {
      using T = decltype(t);
      scale<T>(dev, ptr<T>(dcls), ptr<const T>(dcls), static_cast<double>(j), dcls.numel());
    });
    return {sum_batch(dy, shape), dcls};
  });
}

Var mean_tokens(const Var& x) {
  QFM_CHECK(x.value.rank() == 3 && x.dim(1) > 0, "mean_tokens: x is ", x.shape());
  return record("mean_tokens", tokens_mean(x.value), {x}, [shape = x.shape()](const Tensor& dy) -> Grads {
    const Tensor dx = like(dy, shape);
    dispatch({"mean_tokens.backward", 0, static_cast<double>(dx.bytes())}, dy, [&](auto dev, auto t) {
      using T = decltype(t);
      mean_tokens_backward<T>(dev, ptr<T>(dx), ptr<const T>(dy), shape[0], shape[1], shape[2]);
    });
    return {dx};
  });
}

Var reshape(const Var& x, const Shape& shape) {
  return record("reshape", x.value.reshape(shape), {x},
                [from = x.shape()](const Tensor& dy) -> Grads { return {dy.reshape(from)}; });
}

}  // namespace qfm
