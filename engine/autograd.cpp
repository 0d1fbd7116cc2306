#include "engine/autograd.h"

#include <atomic>
#include <map>
#include <utility>

#include "engine/dispatch.h"
#include "kernels/pointwise/map.h"

namespace qfm {

struct Node {
  const char* name;
  uint64_t id;
  Shape shape;
  DType grad_dtype;
  std::vector<std::shared_ptr<Node>> inputs;  // null where no gradient is needed
  Backward run;                               // empty: a leaf
  Tensor grad;
  bool is_parameter = false;
  bool is_second = false;  // the node of a second result: it hands its gradient to the first one's by itself
  bool used = false;

  Node(const char* n, const Tensor& value, DType grad_type);
  ~Node();
};

namespace {

std::atomic<uint64_t> next_id{1};
thread_local int no_grad_depth = 0;

Tensor sum(const Tensor& a, const Tensor& b, const Tensor& out) {
  dispatch({"gradient sum", 0, 3.0 * static_cast<double>(a.bytes())}, a, [&](auto dev, auto t) {
    using T = decltype(t);
    map(dev, fn::Add{}, flat_space<2>(a.numel()), ptr<T>(out), MapInputs<T, 2>{{ptr<const T>(a), ptr<const T>(b)}});
  });
  return out;
}

// A gradient may be shared with another branch, so it is added in place only when nothing else holds it.
void accumulate_grad(Node& node, Tensor grad) {
  if (node.grad.empty()) {
    node.grad = std::move(grad);
  } else if (node.is_parameter || node.grad.sole_owner()) {
    sum(node.grad, grad, node.grad);
  } else if (grad.sole_owner()) {
    node.grad = sum(node.grad, grad, grad);
  } else {
    node.grad = sum(node.grad, grad, like(grad));
  }
}

void check(const Node& node, const Node& input, size_t index, const Tensor& grad) {
  QFM_CHECK(!grad.empty(), node.name, ": backward gave no gradient for input ", index);
  QFM_CHECK(grad.shape() == input.shape, node.name, ": backward gave a gradient of shape ", grad.shape(),
            " for input ", index, " of shape ", input.shape);
  QFM_CHECK(grad.dtype() == input.grad_dtype, node.name, ": backward gave a ", name_of(grad.dtype()),
            " gradient for input ", index, ", expected ", name_of(input.grad_dtype));
}

Tensor ones(const Tensor& value) {
  QFM_CHECK(value.numel() == 1, "backward: the root has shape ", value.shape(), "; pass its gradient");
  return Tensor::from(std::vector<float>{1.0f}, value.shape()).to(value.dtype()).to(value.device());
}

}  // namespace

Node::Node(const char* n, const Tensor& value, DType grad_type)
    : name(n), id(next_id.fetch_add(1)), shape(value.shape()), grad_dtype(grad_type) {}

// A graph that was never run may be thousands of nodes deep: it is taken apart in a loop, not by recursion.
Node::~Node() {
  std::vector<std::shared_ptr<Node>> pending = std::move(inputs);
  while (!pending.empty()) {
    const std::shared_ptr<Node> node = std::move(pending.back());
    pending.pop_back();
    if (node && node.use_count() == 1)
      for (auto& input : node->inputs) pending.push_back(std::move(input));
  }
}

Var Var::leaf(Tensor value) {
  Var v(value);
  v.node_ = std::make_shared<Node>("leaf", value, value.dtype());
  return v;
}

Var Var::parameter(Tensor value, Tensor grad) {
  QFM_CHECK(grad.dtype() == acc_of(value.dtype()) && grad.shape() == value.shape(), "parameter ",
            value.shape(), ": gradient buffer is ", grad.shape(), " ", name_of(grad.dtype()));
  Var v(value);
  v.node_ = std::make_shared<Node>("parameter", value, grad.dtype());
  v.node_->grad = std::move(grad);
  v.node_->is_parameter = true;
  return v;
}

DType Var::grad_dtype() const { return node_ ? node_->grad_dtype : value.dtype(); }
Tensor Var::grad() const { return node_ ? node_->grad : Tensor(); }

NoGrad::NoGrad() { ++no_grad_depth; }
NoGrad::~NoGrad() { --no_grad_depth; }

bool needs_graph(std::initializer_list<const Var*> inputs) {
  if (no_grad_depth > 0) return false;
  for (const Var* v : inputs)
    if (v->needs_grad()) return true;
  return false;
}

Var record(const char* name, Tensor y, std::vector<Var> inputs, Backward backward) {
  Var result(y);
  bool wanted = false;
  for (const Var& v : inputs) wanted |= v.needs_grad();
  if (no_grad_depth > 0 || !wanted) return result;
  auto node = std::make_shared<Node>(name, y, y.dtype());
  for (Var& v : inputs) node->inputs.push_back(std::move(v.node_));
  node->run = std::move(backward);
  result.node_ = std::move(node);
  return result;
}

// The second result's node has the higher id, so it runs first and leaves its gradient for the first one's,
// which follows even if the first result was not used.
std::pair<Var, Var> record_pair(const char* name, Tensor y0, Tensor y1, std::vector<Var> inputs,
                                PairBackward backward) {
  const auto dy1 = std::make_shared<Tensor>();
  Var first = record(name, std::move(y0), std::move(inputs),
                     [dy1, run = std::move(backward)](const Tensor& dy0) { return run(dy0, *dy1); });
  Var second = record(name, std::move(y1), {first}, [dy1](const Tensor& dy) {
    *dy1 = dy;
    return Grads{Tensor()};
  });
  if (second.node_) second.node_->is_second = true;
  return {first, second};
}

void backward(const Var& root, Tensor dy) {
  QFM_CHECK(root.needs_grad(), "backward: the root has no history");
  if (dy.empty()) dy = ones(root.value);
  QFM_CHECK(dy.shape() == root.shape() && dy.dtype() == root.node_->grad_dtype, "backward: gradient ",
            dy.shape(), " ", name_of(dy.dtype()), " for a root ", root.shape(), " ",
            name_of(root.node_->grad_dtype));
  accumulate_grad(*root.node_, std::move(dy));

  std::map<uint64_t, std::shared_ptr<Node>> pending{{root.node_->id, root.node_}};
  while (!pending.empty()) {
    const std::shared_ptr<Node> node = std::move(std::prev(pending.end())->second);
    pending.erase(std::prev(pending.end()));
    if (node->inputs.empty()) continue;  // a leaf or parameter keeps what it gathered
    QFM_CHECK(!node->used, node->name, ": backward ran through this graph before");
    node->used = true;
    const Backward run = std::move(node->run);
    node->run = nullptr;
    Grads grads = run(std::exchange(node->grad, Tensor()));
    QFM_CHECK(grads.size() == node->inputs.size(), node->name, ": backward gave ", grads.size(),
              " gradients for ", node->inputs.size(), " inputs");
    for (size_t i = 0; i < grads.size(); ++i) {
      const auto& input = node->inputs[i];
      if (!input) continue;
      if (!node->is_second) {
        check(*node, *input, i, grads[i]);
        accumulate_grad(*input, std::move(grads[i]));
      }
      pending.emplace(input->id, input);
    }
  }
}

}  // namespace qfm
