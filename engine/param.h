// Parameters: slices of flat buffers, so that the optimiser, clipping and a copy to a device are one pass
// each. Modules add them by a Scope (engine/scope.h); what is done with all of them is done here.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/autograd.h"
#include "engine/safetensors.h"

namespace qfm {

struct StepState;

// How a parameter begins.
struct Init {
  enum class Kind : unsigned char { Constant, TruncatedNormal, XavierUniform };
  Kind kind = Kind::Constant;
  double value = 0;  // the constant, or the standard deviation
};
constexpr Init constant(double value) { return {Init::Kind::Constant, value}; }
constexpr Init trunc_normal(double std) { return {Init::Kind::TruncatedNormal, std}; }  // cut at +-2 std
// U(-a, a), a = sqrt(6 / (rows + cols)), leading dimensions folded; torch.nn.init.xavier_uniform_.
constexpr Init xavier_uniform() { return {Init::Kind::XavierUniform, 0}; }

// A Matrix is multiplied with: weight decay applies, and it is packed for inference. A Vector (bias, gain,
// embedding) has neither (models/METHOD.md 7).
enum class Role : unsigned char { Matrix, Vector };

// A handle; copies mean the same parameter. Usable once its ParamSet has been allocated.
class Param {
 public:
  struct Entry {
    std::string name;
    Shape shape;
    Role role = Role::Vector;
    Init init;
    bool trainable = true;
    bool packed = true;  // a Matrix that a product reads, and so is worth packing
    bool int8 = false;   // and that product may run in INT8
    bool saved = true;   // part of checkpoints; what only training needs is not
    int64_t offset = 0;  // elements from the start of the flat buffers
    Tensor master, value;
    Var var;
    std::shared_ptr<Entry> whole;  // of rows(): the parameter they belong to
    int64_t first_row = 0;
    bool has_views = false;
  };
  Param() = default;
  explicit Param(std::shared_ptr<Entry> entry, std::vector<std::shared_ptr<Entry>>* views = nullptr)
      : entry_(std::move(entry)), views_(views) {}

  const std::string& name() const { return entry_->name; }
  const Shape& shape() const { return entry_->shape; }
  bool decay() const { return entry_->role == Role::Matrix; }
  bool trainable() const { return entry_->trainable; }
  bool saved() const { return entry_->saved; }
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

// What a model keeps beside its parameters without a gradient, as running statistics: a handle, F32, saved,
// averaged and resumed like them. Usable once its ParamSet has been allocated.
class Buffer {
 public:
  struct Entry {
    std::string name;
    Shape shape;
    double initial = 0;
    Tensor value;
  };
  Buffer() = default;
  explicit Buffer(std::shared_ptr<Entry> entry) : entry_(std::move(entry)) {}
  const std::string& name() const { return entry_->name; }
  const Shape& shape() const { return entry_->shape; }
  const Tensor& value() const { return entry_->value; }
  const std::shared_ptr<Entry>& entry() const { return entry_; }

 private:
  std::shared_ptr<Entry> entry_;
};

// Whether a set's modules work as in training, as torch.nn.Module.train() says: batch normalisation asks. A handle;
// false by itself.
class Training {
 public:
  Training() = default;
  explicit Training(std::shared_ptr<const bool> on) : on_(std::move(on)) {}
  explicit operator bool() const { return on_ && *on_; }

 private:
  std::shared_ptr<const bool> on_;
};

// All parameters and buffers of a model. Order of use: add (by the modules), set_trainable, allocate, then
// initialise or load. Flat buffers hold the trainable parameters first, of those the decayed ones, each slice
// on a 64-byte boundary; the gaps stay zero.
class ParamSet {
 public:
  ParamSet() = default;
  ParamSet(const ParamSet&) = delete;
  ParamSet& operator=(const ParamSet&) = delete;

  // Throws Error on a second use of a name.
  Param add(Param::Entry entry);
  Buffer add(Buffer::Entry entry);
  // Parameters whose name begins with `prefix` get no gradient, no update and no history. Throws Error where
  // there are none.
  void set_trainable(std::string_view prefix, bool trainable);

  // What modules ask, and what a training step turns on for its forward pass; off at first.
  Training training() const { return Training(training_); }
  void set_training(bool on) { *training_ = on; }

  // Masters (acc type) and, where `compute` differs, the compute copy; gradient buffer and history only if `training`.
  // I8, on the CPU and for inference only, is F32 that pack() makes INT8 of.
  void allocate(Device device, DType compute, bool training);
  // Gives every parameter and buffer its Init's values, each from its own stream (seed, name): adding a module
  // changes no other weight.
  void initialise(uint64_t seed);
  // Copies the masters to the compute copy; what was packed is forgotten.
  void sync();
  // Lays matrices out for fast products; each is found by its tensor (engine/packed_weight.h). For inference,
  // on the CPU; elsewhere nothing is to be done. Allocated as I8: every saved matrix is rounded to INT8 first
  // (kernels/gemm/int8_weights.h), and of those whose products run in INT8 only the packed form is kept: the value
  // stands for it, the master is then empty. Throws Error that names one which is not finite.
  void pack();
  void zero_grad();

  // Values and buffers of `other`, which has the same saved entries.
  void copy_from(const ParamSet& other);
  // this = decay this + (1 - decay) other, over the saved entries and the buffers. updated: state of an update on
  // CUDA that may not have been made (Optimizer::state), else null.
  void average(const ParamSet& other, double decay, const StepState* updated = nullptr);

  const std::vector<Param>& params() const { return params_; }
  const std::vector<Buffer>& buffers() const { return buffers_; }
  // What a checkpoint holds: masters and buffers under their names.
  NamedTensors saved() const;
  // What a resumed run needs beside `master` and the moments of its optimiser: the buffers.
  NamedTensors buffer_tensors(const std::string& prefix) const;

  int64_t size() const { return size_; }                // elements of the flat buffers, gaps included
  int64_t trained_size() const { return trained_; }     // the part in front that is updated
  int64_t decayed_size() const { return decayed_; }     // of it, the part in front to which weight decay applies
  int64_t count() const;                                // parameters that are saved, without gaps
  Tensor master, copy, gradient;                        // flat; copy is empty where master serves
  DType compute() const { return compute_; }            // of activations

 private:
  void check_new(const std::string& name) const;
  bool in_int8(const Param::Entry& e) const { return int8_ && e.int8; }
  void bind(Param::Entry& e) const;
  void pack_int8();
  template <class F>
  void for_pairs(const ParamSet& other, F&& f) const;

  std::vector<Param> params_;
  std::vector<Buffer> buffers_;
  std::vector<std::shared_ptr<Param::Entry>> views_;
  std::shared_ptr<bool> training_ = std::make_shared<bool>(false);
  bool int8_ = false;
  int64_t size_ = 0, trained_ = 0, decayed_ = 0;
  DType compute_ = DType::F32;
};

// The set is training while one lives.
class TrainingScope {
 public:
  explicit TrainingScope(ParamSet& set) : set_(set) { set_.set_training(true); }
  ~TrainingScope() { set_.set_training(false); }
  TrainingScope(const TrainingScope&) = delete;
  TrainingScope& operator=(const TrainingScope&) = delete;

 private:
  ParamSet& set_;
};

// Fills one parameter by `init`, from the stream (seed, name). Its set's sync() then copies it to where the model
// computes with it.
void fill(const Param& p, const Init& init, uint64_t seed = 0);

}  // namespace qfm
