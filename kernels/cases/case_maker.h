// Makes the cases of cases.h: a name, arrays and a call make one.
#pragma once
#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "engine/base/error.h"
#include "engine/cuda/cuda.h"
#include "kernels/cases/cases.h"

namespace qfm {

// An array of one call: the pointer that the kernel's parameter asks for, where that is of its type. A struct of
// the kernel's lies in an array of numbers that are aligned as it is.
struct CaseArgument {
  const CaseArray& array;
  void* data;
  template <class T>
  operator T*() const {
    bool fits = size_of(array.type) % alignof(T) == 0;
    if constexpr (requires { dtype_traits<std::remove_const_t<T>>::dtype; })
      fits = dtype_of<std::remove_const_t<T>> == array.type;
    QFM_CHECK(fits, "the array ", array.name, " is ", name_of(array.type));
    return static_cast<T*>(data);
  }
};

// The kernel's name, and a call of it with the arrays of a case in their order, then its sizes.
#define QFM_KERNEL(f) QFM_KERNEL_AS(f, T)
#define QFM_KERNEL_AS(f, ...) \
#f, [] < class T>(auto dev, T, auto... arguments) { f<__VA_ARGS__>(dev, arguments...); }

// Runs call(device tag, T{}).
template <class Call>
void call_kernel(const std::string& name, Device device, DType type, const Call& call) {
  if (device == cpu_device) {
    if (type == DType::F32) return call(Cpu{}, float{});
    if (type == DType::BF16) return call(Cpu{}, bf16{});
    return call(Cpu{}, double{});
  }
#if defined(QFM_CUDA_DEVICE) || defined(QFM_CUDA_HOST)
  const Cuda on{cuda::compute_stream()};
  if (type == DType::F32) return call(on, float{});
  if (type == DType::BF16) return call(on, bf16{});
#endif
  QFM_FAIL(name, ": no kernel for ", name_of(type), " on ", name_of(device));
}

class CaseMaker {
 public:
  CaseMaker(const CaseSizes& sizes, DType type) : s(sizes), type_(type) {}
  const CaseSizes s;
  DType type() const { return type_; }
  std::string group;

  // Arrays of the model's type, and of the one it accumulates in, which also has what is F32 by contract.
  CaseArray in(const char* name, int64_t size) const { return {name, ArrayRole::In, type_, size}; }
  CaseArray out(const char* name, int64_t size, Equal equal = Equal::Bits) const {
    return {name, ArrayRole::Out, type_, size, equal};
  }
  CaseArray acc_in(const char* name, int64_t size) const {
    return {name, ArrayRole::In, acc_of(type_), size};
  }
  CaseArray acc_out(const char* name, int64_t size, Equal equal = Equal::Rounding) const {
    return {name, ArrayRole::Out, acc_of(type_), size, equal};
  }
  CaseArray changed(const char* name, int64_t size) const {
    return {name, ArrayRole::InOut, acc_of(type_), size, Equal::Rounding};
  }
  CaseArray scratch(int64_t size) const { return {"scratch", ArrayRole::Scratch, acc_of(type_), size}; }
  // value(i) of element i.
  template <class V, class Value>
  static CaseArray numbers(const char* name, ArrayRole role, int64_t size, Value value) {
    const auto contents = [=](void* const*) {
      std::vector<char> bytes(static_cast<size_t>(size) * sizeof(V));
      for (int64_t i = 0; i < size; ++i) {
        const V v = static_cast<V>(value(i));
        std::memcpy(bytes.data() + static_cast<size_t>(i) * sizeof(V), &v, sizeof(V));
      }
      return bytes;
    };
    return {name, role, dtype_of<V>, size, Equal::Bits, contents};
  }

  double bytes(int64_t elements) const {
    return static_cast<double>(elements) * static_cast<double>(size_of(type_));
  }
  double acc_bytes(int64_t elements) const {
    return static_cast<double>(elements) * static_cast<double>(size_of(acc_of(type_)));
  }

  struct What {
    std::string name;
    std::vector<int64_t> dims;
    int64_t length = 1;
    double flops = 0, bytes = 0;  // bytes 0: its largest arrays, each once for every direction
    std::string note = "";
  };
  // call(device tag, T{}, a CaseArgument for each array, sizes...) runs the kernel once.
  template <size_t n, class Call, class... Sizes>
  void add(const What& what, CaseArray (&&arrays)[n], const char* kernel, Call call, Sizes... sizes) {
    std::string shape;
    for (const int64_t dim : what.dims) shape += (shape.empty() ? "" : "x") + std::to_string(dim);
    const std::vector<CaseArray> all(arrays, arrays + n);
    const auto run = [all, call, sizes..., name = what.name, type = type_](Device device, void* const* data) {
      call_kernel(name, device, type, [&](auto dev, auto t) {
        [&]<size_t... i>(std::index_sequence<i...>) {
          call(dev, t, CaseArgument{all[i], data[i]}..., sizes...);
        }
        (std::make_index_sequence<n>());
      });
    };
    cases_.push_back({group, what.name, kernel, shape, what.note, type_, std::max<int64_t>(1, what.length),
                      what.flops, what.bytes > 0 ? what.bytes : moved(all), all, run});
  }

  std::vector<KernelCase> take() { return std::move(cases_); }

 private:
  static double moved(const std::vector<CaseArray>& arrays) {
    int64_t largest = 0;
    for (const CaseArray& a : arrays)
      if (a.role != ArrayRole::Scratch) largest = std::max(largest, a.size);
    double bytes = 0;
    for (const CaseArray& a : arrays)
      if (a.role != ArrayRole::Scratch && a.size == largest)
        bytes += (a.role == ArrayRole::InOut ? 2 : 1) * static_cast<double>(a.size) *
                 static_cast<double>(size_of(a.type));
    return bytes;
  }

  const DType type_;
  std::vector<KernelCase> cases_;
};

// Map, reduce and gather.
void add_algebra_cases(CaseMaker& make);
void add_backbone_cases(CaseMaker& make);
void add_norm_pool_cases(CaseMaker& make);
// The losses, the matching memory and the optimiser.
void add_training_cases(CaseMaker& make);
// The three directions of each convolution of the sizes.
void add_conv_cases(CaseMaker& make);
void add_sampling_cases(CaseMaker& make);
void add_int8_cases(CaseMaker& make);

}  // namespace qfm
