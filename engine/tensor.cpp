#include "engine/tensor.h"

#include <map>
#include <utility>

#include "engine/dispatch.h"
#include "engine/memory/memory.h"
#include "kernels/pointwise/map.h"

namespace qfm {

Shape::Shape(std::span<const int64_t> dims) {
  QFM_CHECK(dims.size() <= kMaxRank, "shape: ", dims.size(), " dimensions, at most ", kMaxRank,
            " are allowed");
  int64_t product = 1;
  for (int64_t d : dims) {
    QFM_CHECK(d >= 0, "shape: negative dimension ", d);
    QFM_CHECK(d == 0 || product <= (int64_t{1} << 62) / d, "shape: too many elements");
    product *= d;
    dims_[static_cast<size_t>(rank_++)] = d;
  }
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int64_t d : *this) n *= d;
  return n;
}

int64_t Shape::operator[](int i) const {
  const int at = i < 0 ? i + rank_ : i;
  QFM_CHECK(at >= 0 && at < rank_, "shape ", *this, ": no dimension ", i);
  return dims_[static_cast<size_t>(at)];
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '(';
  for (const int64_t* d = shape.begin(); d != shape.end(); ++d) out << (d == shape.begin() ? "" : ", ") << *d;
  return out << ')';
}

struct Tensor::Storage {
  Device device;
  size_t bytes;
  void* data;
  std::map<std::pair<const void*, int64_t>, std::shared_ptr<const void>> attached;  // by begin and elements
  Storage(Device d, size_t n) : device(d), bytes(n), data(allocate(d, n)) {}
  ~Storage() { release(device, data, bytes); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
};

Tensor::Tensor(Shape shape, DType dtype, Device device)
    : storage_(std::make_shared<Storage>(device, static_cast<size_t>(shape.numel()) * size_of(dtype))),
      data_(storage_->data),
      shape_(shape),
      dtype_(dtype),
      device_(device) {}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  Tensor t(shape, dtype, device);
  t.fill_zero();
  return t;
}

template <class T>
Tensor Tensor::from(std::span<const T> values, Shape shape) {
  QFM_CHECK(static_cast<int64_t>(values.size()) == shape.numel(), "tensor ", shape, ": given ", values.size(),
            " values");
  Tensor t(shape, dtype_of<T>);
  copy_bytes(cpu_device, t.raw(), cpu_device, values.data(), t.bytes());
  return t;
}
template Tensor Tensor::from(std::span<const float>, Shape);
template Tensor Tensor::from(std::span<const bf16>, Shape);
template Tensor Tensor::from(std::span<const double>, Shape);
template Tensor Tensor::from(std::span<const int32_t>, Shape);
template Tensor Tensor::from(std::span<const int64_t>, Shape);

Tensor Tensor::reshape(Shape shape) const {
  QFM_CHECK(shape.numel() == numel(), "tensor ", shape_, ": cannot be seen as ", shape);
  Tensor view = *this;
  view.shape_ = shape;
  return view;
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  QFM_CHECK(rank() >= 1 && 0 <= begin && begin <= end && end <= dim(0), "tensor ", shape_, ": no rows ",
            begin, " to ", end);
  std::vector<int64_t> dims(shape_.begin(), shape_.end());
  const int64_t row = dims[0] == 0 ? 0 : numel() / dims[0];
  dims[0] = end - begin;
  Tensor view = *this;
  view.shape_ = Shape(dims);
  view.data_ = static_cast<char*>(data_) + static_cast<size_t>(begin * row) * size_of(dtype_);
  return view;
}

Tensor Tensor::clone() const {
  if (empty()) return {};
  Tensor t = like(*this);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::to(Device device) const {
  if (empty() || device == device_) return *this;
  Tensor t(shape_, dtype_, device);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::to(DType dtype) const {
  if (empty() || dtype == dtype_) return *this;
  Tensor t(shape_, dtype, device_);
  dispatch({"cast"}, *this, [&](auto dev, auto from) {
    using Dev = decltype(dev);
    using From = decltype(from);
    dispatch({"cast"}, t, [&](auto same, auto to) {
      if constexpr (std::is_same_v<Dev, decltype(same)>)
        cast(same, ptr<decltype(to)>(t), ptr<const From>(*this), numel());
    });
  });
  return t;
}

void Tensor::copy_from(const Tensor& other) const {
  QFM_CHECK(shape_ == other.shape_ && dtype_ == other.dtype_, "tensor ", shape_, " ", name_of(dtype_),
            ": copy from ", other.shape_, " ", name_of(other.dtype_));
  copy_bytes(device_, data_, other.device_, other.data_, bytes());
}

void Tensor::attach(std::shared_ptr<const void> made) const {
  storage_->attached[{data_, numel()}] = std::move(made);
}
const void* Tensor::attached() const {
  if (!storage_ || storage_->attached.empty()) return nullptr;
  const auto at = storage_->attached.find({data_, numel()});
  return at == storage_->attached.end() ? nullptr : at->second.get();
}
void Tensor::detach_all() const { storage_->attached.clear(); }

void Tensor::fill_zero() const { zero_bytes(device_, data_, bytes()); }

Tensor like(const Tensor& x) { return Tensor(x.shape(), x.dtype(), x.device()); }
Tensor like(const Tensor& x, Shape shape) { return Tensor(shape, x.dtype(), x.device()); }
Tensor acc_like(const Tensor& x, Shape shape) { return Tensor(shape, acc_of(x.dtype()), x.device()); }

MatrixView as_matrix(const Tensor& x) {
  QFM_CHECK(x.rank() >= 1, "a tensor without dimensions has no rows");
  int64_t rows = 1;
  for (int i = 0; i + 1 < x.rank(); ++i) rows *= x.dim(i);
  return {rows, x.dim(-1)};
}

}  // namespace qfm
