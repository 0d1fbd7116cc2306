// Reverse-mode differentiation: a Var is a Tensor with history, record() attaches a backward to a result.
#pragma once
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "engine/tensor.h"

namespace qfm {

using Grads = std::vector<Tensor>;
// From the gradient of the output to one gradient per input, in order. An input that needs none may get an
// empty one.
using Backward = std::function<Grads(const Tensor& dy)>;

// The same for an op with two results; the gradient of a result that was not used is empty.
using PairBackward = std::function<Grads(const Tensor& dy0, const Tensor& dy1)>;

struct Node;

class Var {
 public:
  Var() = default;
  // A constant. Implicit, so that images and labels can be passed as they are.
  Var(Tensor tensor) : value(std::move(tensor)) {}
  // A variable whose gradient is wanted; it appears in grad() after backward().
  static Var leaf(Tensor value);
  // A parameter: its gradient, in `grad`'s dtype (the accumulation type), is added to `grad`.
  static Var parameter(Tensor value, Tensor grad);

  Tensor value;

  const Shape& shape() const { return value.shape(); }
  int64_t dim(int i) const { return value.dim(i); }
  bool needs_grad() const { return node_ != nullptr; }
  // The dtype that its gradient has: a parameter's is the accumulation type, any other's its own.
  DType grad_dtype() const;
  // Gradient gathered by a leaf or parameter; empty before backward().
  Tensor grad() const;

 private:
  friend Var record(const char*, Tensor, std::vector<Var>, Backward);
  friend std::pair<Var, Var> record_pair(const char*, Tensor, Tensor, std::vector<Var>, PairBackward);
  friend void backward(const Var&, Tensor);
  std::shared_ptr<Node> node_;
};

// No history is kept while one lives (on this thread): inference.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;
};
// History is wanted: not under NoGrad, and some input needs a gradient. An op that saves something only for
// its backward asks this first.
bool needs_graph(std::initializer_list<const Var*> inputs);

// y with a history: `backward` will be called at most once, then dropped with all that it captured.
Var record(const char* name, Tensor y, std::vector<Var> inputs, Backward backward);

// Two results of one op, y0 and y1.
std::pair<Var, Var> record_pair(const char* name, Tensor y0, Tensor y1, std::vector<Var> inputs,
                                PairBackward backward);

// Gradients of sum(root * dy) for every leaf and parameter behind root; dy defaults to ones (root must then
// have one element). Nodes run by descending id, so each runs after all its users. Throws Error when a
// backward returns the wrong number of gradients, a missing one, or one of another shape or dtype, and when a
// graph is used twice.
void backward(const Var& root, Tensor dy = {});

}  // namespace qfm
