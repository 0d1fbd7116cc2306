// What a module is built with: a set of parameters and the prefix of their names.
//
//   const Scope block = scope / "blocks" / i;
//   Param w = block.weight("weight", {out, in}, trunc_normal(0.02));    // "blocks.0.weight"
#pragma once
#include <string>
#include <string_view>

#include "engine/param.h"

namespace qfm {

class Scope {
 public:
  // Implicit: the set itself is its outermost scope.
  Scope(ParamSet& set) : set_(&set) {}
  Scope operator/(std::string_view name) const {
    Scope inner = *this;
    inner.prefix_ += std::string(name) + ".";
    return inner;
  }
  Scope operator/(int64_t index) const { return *this / std::string_view(std::to_string(index)); }
  // The same for what only training needs, such as the projector of a contrastive loss: in no checkpoint.
  Scope training_only() const {
    Scope scope = *this;
    scope.saved_ = false;
    return scope;
  }
  // The same for weights whose products may run in INT8.
  Scope in_int8() const {
    Scope scope = *this;
    scope.int8_ = true;
    return scope;
  }

  // What is multiplied with: it decays, and is packed for inference.
  Param weight(std::string_view name, Shape shape, Init init) const {
    return add(name, shape, Role::Matrix, init);
  }
  // The same for a convolution's (out, in, kh, kw), which it reads as it is.
  Param filter(std::string_view name, Shape shape, Init init) const {
    return add(name, shape, Role::Matrix, init, false);
  }
  // Bias, gain, embedding.
  Param vector(std::string_view name, Shape shape, Init init) const {
    return add(name, shape, Role::Vector, init);
  }
  // No gradient: running statistics.
  Buffer buffer(std::string_view name, Shape shape, double initial) const {
    return set_->add(Buffer::Entry{prefix_ + std::string(name), shape, initial, {}});
  }
  // Whether the model is training, for modules that then work otherwise.
  Training training() const { return set_->training(); }

 private:
  Param add(std::string_view name, Shape shape, Role role, Init init, bool packed = true) const {
    Param::Entry entry;
    entry.name = prefix_ + std::string(name), entry.shape = shape, entry.role = role, entry.init = init;
    entry.packed = packed, entry.saved = saved_;
    entry.int8 = role == Role::Matrix && packed && int8_;
    return set_->add(std::move(entry));
  }

  ParamSet* set_;
  std::string prefix_;
  bool saved_ = true, int8_ = false;
};

}  // namespace qfm
