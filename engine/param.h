// Parameters: slices of flat buffers, so that the optimiser, clipping and a copy to a device are one pass
// each.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/autograd.h"

namespace qfm {

// A handle; copies mean the same parameter. Usable once its ParamSet has been allocated.
class Param {
 public:
  struct Entry {
    std::string name;
    Shape shape;
    bool decay;
    int64_t offset = 0;  // elements from the start of the flat buffers
    Tensor master, value;
    Var var;
    std::shared_ptr<Entry> whole;  // of rows(): the parameter they belong to
    int64_t first_row = 0;
  };
  Param() = default;
  explicit Param(std::shared_ptr<Entry> entry, std::vector<std::shared_ptr<Entry>>* views = nullptr)
      : entry_(std::move(entry)), views_(views) {}

  const std::string& name() const { return entry_->name; }
  const Shape& shape() const { return entry_->shape; }
  bool decay() const { return entry_->decay; }
  // What the model computes with (compute dtype), and the full-precision original; the same tensor where the
  // types agree.
  const Tensor& value() const { return entry_->value; }
  const Tensor& master() const { return entry_->master; }
  Tensor grad() const { return entry_->var.grad(); }
  operator const Var&() const { return entry_->var; }
  const std::shared_ptr<Entry>& entry() const { return entry_; }

  // Rows [begin, end) as a parameter of their own: one stored tensor, several uses (query, key, value of
  // in_proj). To be taken before the set is allocated.
  Param rows(int64_t begin, int64_t end) const;

 private:
  std::shared_ptr<Entry> entry_;
  std::vector<std::shared_ptr<Entry>>* views_ = nullptr;
};

// All parameters of a model. Order of use: add (by the modules), allocate, then fill the masters and call
// sync. Flat buffers hold the decayed parameters first, each slice on a 64-byte boundary; the gaps stay zero.
class ParamSet {
 public:
  ParamSet() = default;
  ParamSet(const ParamSet&) = delete;
  ParamSet& operator=(const ParamSet&) = delete;

  // decay: weight decay applies (models/METHOD.md 7.2: not to 1-D tensors, biases, embeddings). Throws Error
  // on a second use of a name.
  Param add(const std::string& name, Shape shape, bool decay);
  // Masters (acc type) and, where `compute` differs, the compute copy; gradient buffer and history only if
  // `training`.
  void allocate(Device device, DType compute, bool training);
  // Copies the masters to the compute copy.
  void sync();
  void zero_grad();

  const std::vector<Param>& params() const { return params_; }
  int64_t size() const { return size_; }             // elements of the flat buffers, gaps included
  int64_t decayed_size() const { return decayed_; }  // the part in front to which weight decay applies
  int64_t count() const;                             // parameters, without gaps
  Tensor master, copy, gradient;                     // flat; copy is empty where master serves
  DType compute() const { return compute_; }

 private:
  std::vector<Param> params_;
  std::vector<std::shared_ptr<Param::Entry>> views_;
  int64_t size_ = 0, decayed_ = 0;
  DType compute_ = DType::F32;
};

// Initial values, each parameter from its own stream (seed, name), so that adding a module changes no other
// weight.
void fill(const Param& p, double value);
void fill_truncated_normal(const Param& p, uint64_t seed, double std);  // cut at +-2 std
// U(-a, a), a = sqrt(6 / (rows + cols)), p is (rows, cols); torch.nn.init.xavier_uniform_.
void fill_xavier_uniform(const Param& p, uint64_t seed);

}  // namespace qfm
