#include "layers/shape.h"

#include "engine/dispatch.h"
#include "kernels/gather/gather.h"
#include "layers/reduce.h"

namespace qfm {
namespace {

int axis_of(const char* name, const Shape& shape, int axis) {
  const int at = axis < 0 ? axis + shape.rank() : axis;
  QFM_CHECK(at >= 0 && at < shape.rank(), name, ": ", shape, " has no axis ", axis);
  return at;
}

Shape with_dim(const Shape& shape, int axis, int64_t size) {
  std::vector<int64_t> dims(shape.begin(), shape.end());
  dims[static_cast<size_t>(axis)] = size;
  return Shape(dims);
}

// Steps between neighbours along each axis of a dense tensor.
void dense_steps(const Shape& shape, int64_t* step) {
  int64_t next = 1;
  for (int d = shape.rank() - 1; d >= 0; --d) step[d] = next, next *= shape[d];
}

void copy(const char* name, const CopySpace& space, const Tensor& dst, int64_t dst_at, const Tensor& src, int64_t src_at) {
  int64_t n = 1;
  for (int d = 0; d < space.dims; ++d) n *= space.size[d];
  if (n == 0) return;
  dispatch({name, 0, 2.0 * static_cast<double>(n) * static_cast<double>(size_of(dst.dtype()))}, dst, [&](auto dev, auto t) {
    using T = decltype(t);
    strided_copy(dev, space, ptr<T>(dst) + dst_at, ptr<const T>(src) + src_at);
  });
}

// Between a part of `whole`, from place `begin` of the axis on, and `part`, which is that much of it.
enum class Direction { IntoWhole, IntoPart };
void copy_part(const char* name, Direction direction, const Tensor& whole, const Tensor& part, int axis, int64_t begin) {
  CopySpace space;
  space.dims = part.rank();
  std::copy(part.shape().begin(), part.shape().end(), space.size);
  int64_t inside[kMaxDims], alone[kMaxDims];
  dense_steps(whole.shape(), inside), dense_steps(part.shape(), alone);
  const bool into_whole = direction == Direction::IntoWhole;
  for (int d = 0; d < space.dims; ++d) {
    space.to[d] = into_whole ? inside[d] : alone[d];
    space.from[d] = into_whole ? alone[d] : inside[d];
  }
  if (into_whole) copy(name, space, whole, begin * inside[axis], part, 0);
  else copy(name, space, part, 0, whole, begin * inside[axis]);
}

void check_ids(const Tensor& ids, int64_t rows) {
  QFM_CHECK(ids.dtype() == DType::I32, "embedding: ids are ", name_of(ids.dtype()), ", expected I32");
  if (ids.device() != cpu_device && cuda::capturing()) return;
  const Tensor host = ids.to(cpu_device);
  const auto values = host.span<const int32_t>();
  for (size_t i = 0; i < values.size(); ++i)
    QFM_CHECK(values[i] >= 0 && values[i] < rows, "embedding: id ", values[i], " at place ", i, " is not in [0, ", rows,
              ")");
}

}  // namespace

Var reshape(const Var& x, const Shape& shape) {
  return record("reshape", x.value.reshape(shape), {x}, [from = x.shape(), type = x.grad_dtype()](const Tensor& dy) -> Grads {
    return {dy.reshape(from).to(type)};
  });
}

Var slice(const Var& x, int axis, int64_t begin, int64_t end) {
  const int at = axis_of("slice", x.shape(), axis);
  QFM_CHECK(0 <= begin && begin <= end && end <= x.dim(at), "slice: axis ", axis, " of ", x.shape(), " has no elements ",
            begin, " to ", end);
  const Tensor y = like(x.value, with_dim(x.shape(), at, end - begin));
  copy_part("slice", Direction::IntoPart, x.value, y, at, begin);
  return record("slice", y, {x}, [at, begin, from = x.shape(), type = x.grad_dtype()](const Tensor& dy) -> Grads {
    const Tensor dx = Tensor::zeros(from, dy.dtype(), dy.device());
    copy_part("slice", Direction::IntoWhole, dx, dy, at, begin);
    return {dx.to(type)};
  });
}

Var concat(const std::vector<Var>& parts, int axis) {
  QFM_CHECK(!parts.empty(), "concat: no tensors");
  const Shape& first = parts[0].shape();
  const int at = axis_of("concat", first, axis);
  int64_t size = 0;
  for (const Var& part : parts) {
    QFM_CHECK(part.value.rank() == first.rank() && with_dim(part.shape(), at, first[at]) == first &&
                  part.value.dtype() == parts[0].value.dtype(),
              "concat: ", part.shape(), " does not go with ", first, " along axis ", axis);
    size += part.dim(at);
  }
  const Tensor y = like(parts[0].value, with_dim(first, at, size));
  struct Part {
    Shape shape;
    DType type;
    bool needs_grad;
  };
  std::vector<Part> pieces;
  int64_t begin = 0;
  for (const Var& part : parts) {
    copy_part("concat", Direction::IntoWhole, y, part.value, at, begin);
    begin += part.dim(at);
    pieces.push_back({part.shape(), part.grad_dtype(), part.needs_grad()});
  }
  return record("concat", y, parts, [at, pieces](const Tensor& dy) -> Grads {
    Grads grads;
    int64_t from = 0;
    for (const Part& p : pieces) {
      Tensor d;
      if (p.needs_grad) {
        d = like(dy, p.shape);
        copy_part("concat", Direction::IntoPart, dy, d, at, from);
        d = d.to(p.type);
      }
      grads.push_back(d);
      from += p.shape[at];
    }
    return grads;
  });
}

Tensor permute(const Tensor& x, const std::vector<int>& order) {
  CopySpace space;
  space.dims = x.rank();
  int64_t from[kMaxDims];
  dense_steps(x.shape(), from);
  std::vector<int64_t> dims;
  for (const int axis : order) dims.push_back(x.dim(axis));
  const Tensor y = like(x, Shape(dims));
  dense_steps(y.shape(), space.to);
  for (int d = 0; d < space.dims; ++d) {
    space.size[d] = y.dim(d);
    space.from[d] = from[order[static_cast<size_t>(d)]];
  }
  copy("permute", space, y, 0, x, 0);
  return y;
}

Var permute(const Var& x, const std::vector<int>& order) {
  const auto rank = static_cast<size_t>(x.value.rank());
  std::vector<int> back(rank, -1), forth(order);
  bool fits = order.size() == rank;
  for (size_t i = 0; fits && i < rank; ++i) {
    if (forth[i] < 0) forth[i] += static_cast<int>(rank);
    fits = forth[i] >= 0 && forth[i] < static_cast<int>(rank) && back[static_cast<size_t>(forth[i])] < 0;
    if (fits) back[static_cast<size_t>(forth[i])] = static_cast<int>(i);
  }
  QFM_CHECK(fits, "permute: that is no order of the axes of ", x.shape());
  return record("permute", permute(x.value, forth), {x},
                [back, type = x.grad_dtype()](const Tensor& dy) -> Grads { return {permute(dy, back).to(type)}; });
}

Tensor expand(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const Tensor y = like(x, shape);
  CopySpace space;
  space.dims = y.rank();
  dense_steps(shape, space.to);
  int64_t dense[kMaxDims];
  dense_steps(x.shape(), dense);
  const int missing = y.rank() - x.rank();
  for (int d = 0; d < space.dims; ++d) {
    space.size[d] = y.dim(d);
    space.from[d] = d < missing || x.dim(d - missing) == 1 ? 0 : dense[d - missing];
    QFM_CHECK(missing >= 0 && (space.from[d] == 0 || x.dim(d - missing) == y.dim(d)), "expand: ", x.shape(),
              " does not broadcast to ", shape);
  }
  copy("expand", space, y, 0, x, 0);
  return y;
}

Var expand(const Var& x, const Shape& shape) {
  return record("expand", expand(x.value, shape), {x},
                [from = x.shape(), type = x.grad_dtype()](const Tensor& dy) -> Grads { return {sum_to(dy, from, type)}; });
}

Var embedding(const Var& table, const Tensor& ids) {
  QFM_CHECK(table.value.rank() == 2, "embedding: the table is ", table.shape(), ", expected (rows, columns)");
  const int64_t rows = table.dim(0), cols = table.dim(1), count = ids.numel();
  check_ids(ids, rows);
  std::vector<int64_t> dims(ids.shape().begin(), ids.shape().end());
  dims.push_back(cols);
  const Tensor y = like(table.value, Shape(dims)), at = ids.to(table.value.device());
  dispatch({"embedding", 0, 2.0 * static_cast<double>(y.bytes())}, y, [&](auto dev, auto t) {
    using T = decltype(t);
    gather_rows(dev, ptr<T>(y), ptr<const T>(table.value), ptr<const int32_t>(at), count, cols);
  });
  return record("embedding", y, {table}, [at, count, rows, cols, type = table.grad_dtype()](const Tensor& dy) -> Grads {
    const Tensor dtable = acc_like(dy, {rows, cols});
    dispatch({"embedding.backward", 0, static_cast<double>(dtable.bytes() + dy.bytes())}, dy, [&](auto dev, auto t) {
      using T = decltype(t);
      scatter_add_rows(dev, ptr<acc<T>>(dtable), ptr<const T>(dy), ptr<const int32_t>(at), count, rows, cols);
    });
    return {dtable.to(type)};
  });
}

}  // namespace qfm
