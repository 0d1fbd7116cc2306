// Tensor: contiguous row-major data on a device, dimensions in PyTorch's order. Copies share the data.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <span>
#include <type_traits>
#include <vector>

#include "engine/base/dtype.h"
#include "engine/base/error.h"
#include "engine/memory/device.h"

namespace qfm {

// Up to six dimensions; a scalar has shape (1).
class Shape {
 public:
  static constexpr int kMaxRank = 6;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}
  // Throws Error on more than six dimensions, a negative one, or a product beyond 2^62.
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  int64_t numel() const;
  // i < 0 counts from the end. Throws Error out of range.
  int64_t operator[](int i) const;
  const int64_t* begin() const { return dims_.data(); }
  const int64_t* end() const { return dims_.data() + rank_; }
  friend bool operator==(const Shape& a, const Shape& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};
std::ostream& operator<<(std::ostream& out, const Shape& shape);  // (2, 197, 192)

class Tensor {
 public:
  Tensor() = default;  // empty(): no data, no shape
  // Contents are not initialised. Throws OutOfMemory.
  explicit Tensor(Shape shape, DType dtype = DType::F32, Device device = cpu_device);
  static Tensor zeros(Shape shape, DType dtype = DType::F32, Device device = cpu_device);
  // On the CPU, copied from `values`, whose count must match.
  template <class T>
  static Tensor from(std::span<const T> values, Shape shape);
  template <class T>
  static Tensor from(const std::vector<T>& values, Shape shape) {
    return from(std::span<const T>(values), shape);
  }

  bool empty() const { return storage_ == nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t numel() const { return empty() ? 0 : shape_.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  size_t bytes() const { return static_cast<size_t>(numel()) * size_of(dtype_); }

  void* raw() const { return data_; }
  // Throws Error when T is not the tensor's dtype.
  template <class T>
  T* data() const {
    QFM_CHECK(dtype_of<std::remove_const_t<T>> == dtype_, "tensor ", shape_, ": is ", name_of(dtype_),
              ", wanted ", name_of(dtype_of<std::remove_const_t<T>>));
    return static_cast<T*>(data_);
  }
  // The elements, on the CPU only.
  template <class T>
  std::span<T> span() const {
    QFM_CHECK(device_ == cpu_device, "tensor ", shape_, ": is on ", name_of(device_), ", wanted on cpu");
    return {data<T>(), static_cast<size_t>(numel())};
  }

  // Views of the same data: equal element count; rows [begin, end) of the first dimension.
  Tensor reshape(Shape shape) const;
  Tensor rows(int64_t begin, int64_t end) const;

  Tensor clone() const;
  Tensor to(Device device) const;             // itself when already there
  Tensor to(DType dtype) const;               // itself when already so; floating types only
  void copy_from(const Tensor& other) const;  // same shape and dtype, any device
  void fill_zero() const;
  // No other Tensor shares this data.
  bool sole_owner() const { return storage_.use_count() == 1; }

  // Something made from these elements, kept beside them: every view of just them finds it (null: nothing), until
  // detach_all() forgets all that was attached to any view of the data. Not while another thread looks.
  void attach(std::shared_ptr<const void> made) const;
  const void* attached() const;
  void detach_all() const;

 private:
  struct Storage;
  std::shared_ptr<Storage> storage_;
  void* data_ = nullptr;
  Shape shape_;
  DType dtype_ = DType::F32;
  Device device_ = cpu_device;
};

// A new tensor with the shape, dtype and device of x; or another shape.
Tensor like(const Tensor& x);
Tensor like(const Tensor& x, Shape shape);
// A new tensor for statistics and parameter gradients: the accumulation type of x.
Tensor acc_like(const Tensor& x, Shape shape);

// (rows, cols): leading dimensions folded.
struct MatrixView {
  int64_t rows, cols;
};
MatrixView as_matrix(const Tensor& x);

}  // namespace qfm
