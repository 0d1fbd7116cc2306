// Makes the cases of tools/bench/kernel_cases.h: arrays and a call make one.
#pragma once
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "engine/dispatch.h"
#include "tools/bench/cold_buffers.h"
#include "tools/bench/kernel_cases.h"

namespace qfm {

// An array that a kernel reads or writes.
struct Array {
  Shape shape;
  DType dtype;
  bool zero = false;  // instead of normal numbers
  Tensor fixed = {};  // instead of all this: the same in every turn
};

// The arrays of one turn. Each becomes the pointer that the kernel's parameter asks for.
class BufferSet {
 public:
  BufferSet(const std::vector<Buffer>& buffers, size_t turn) : buffers_(buffers), turn_(turn) {}
  struct Argument {
    const Tensor& tensor;
    template <class T>
    operator T*() const {
      return tensor.data<T>();
    }
  };
  Argument operator[](size_t i) const { return {buffers_[i][turn_]}; }

 private:
  const std::vector<Buffer>& buffers_;
  const size_t turn_;
};

class CaseMaker {
 public:
  CaseMaker(const ModelConfig& model, int64_t batch, Placement where, int64_t cold_bytes)
      : b(batch),
        t(model.vit.tokens()),
        n(model.vit.patches()),
        d(model.vit.width),
        h(model.vit.heads),
        q(model.panel.judges),
        vit(model.vit),
        where_(where),
        beyond_(cold_bytes) {}

  // Images, tokens and patches of one, width, heads, judges.
  const int64_t b, t, n, d, h, q;
  const VitConfig vit;
  Device device() const { return where_.device; }

  Array of(Shape shape) const { return {shape, where_.dtype}; }
  Array sums(Shape shape) const { return {shape, acc_of(where_.dtype)}; }  // also what is F32 by contract
  template <class T, class Value>
  Array fixed(Shape shape, Value&& value) const {  // value(i) of element i
    std::vector<T> values(static_cast<size_t>(shape.numel()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(value(static_cast<int64_t>(i)));
    return {shape, dtype_of<T>, false, Tensor::from(values, shape).to(where_.device)};
  }
  // Bytes of so many elements of the model's type, and of the one it accumulates in.
  double bytes(int64_t elements) const { return bytes_of(elements, where_.dtype); }
  double sum_bytes(int64_t elements) const { return bytes_of(elements, acc_of(where_.dtype)); }

  struct What {
    std::string name, kernel;
    std::initializer_list<int64_t> dims;
    double flops, bytes;
    std::string note = "";
  };
  // call(device tag, T{}, turn) runs the kernel once.
  template <class Call>
  void add(const What& what, std::vector<Array> arrays, Call call) {
    const auto prepare = [arrays, call, name = what.name](const ColdBuffers& make) {
      std::vector<Buffer> buffers;
      for (const Array& a : arrays) buffers.push_back(made(make, a));
      const Tensor type({1}, make.where.dtype, make.where.device);
      return [name, call, buffers, type](size_t turn) {
        dispatch({name.c_str()}, type, [&](auto dev, auto t) { call(dev, t, BufferSet(buffers, turn)); });
      };
    };
    add_prepared(what, prepare);
  }
  // prepare(rotation) returns what runs once.
  template <class Prepare>
  void add_prepared(const What& what, Prepare prepare) {
    std::string shape;
    for (int64_t dim : what.dims) shape += (shape.empty() ? "" : "x") + std::to_string(dim);
    const ColdBuffers make(where_, what.bytes, beyond_);
    cases_.push_back({what.name, what.kernel, shape, what.note, what.flops, what.bytes,
                      [prepare, make] { return KernelCase::Run(prepare(make)); }});
  }

  std::vector<KernelCase> take() { return std::move(cases_); }

 private:
  static double bytes_of(int64_t elements, DType dtype) {
    return static_cast<double>(elements) * static_cast<double>(size_of(dtype));
  }
  static Buffer made(const ColdBuffers& make, const Array& a) {
    if (!a.fixed.empty()) return Buffer(a.fixed);
    Buffer buffer(a.shape, a.dtype, make.where.device, make.copies);
    for (size_t i = 0; a.zero && i < make.copies; ++i) buffer[i].fill_zero();
    return buffer;
  }

  const Placement where_;
  const int64_t beyond_;
  std::vector<KernelCase> cases_;
};

// Of the backbone; of the losses, the matching memory and the optimiser.
void add_transformer_cases(CaseMaker& make);
void add_training_cases(CaseMaker& make);

}  // namespace qfm
