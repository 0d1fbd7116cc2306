// An ONNX graph as it grows: nodes of opset 17 and the tensors that they read. A value is known by its name.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/param.h"
#include "tools/onnx/protobuf.h"

namespace qfm {

using OnnxValue = std::string;

class OnnxGraph {
 public:
  using Ints = std::vector<int64_t>;
  using Attributes = std::vector<std::pair<const char*, std::variant<int64_t, double, Ints>>>;

  // Adds a node with one result, and returns that; `result`: what it shall be called.
  OnnxValue node(const char* op, const std::vector<OnnxValue>& inputs, const Attributes& attributes = {},
                 const std::string& result = "");
  // Adds a tensor, F32 on the CPU, that is stored in the file; a name that is taken gets a number.
  OnnxValue tensor(const std::string& name, const Tensor& tensor);
  OnnxValue weight(const Param& param) { return tensor(param.name(), param.value()); }
  OnnxValue number(double value);      // a scalar
  OnnxValue index(int64_t value);      // a scalar, I64
  OnnxValue ints(const Ints& values);  // a vector, I64: a shape, say

  // The whole file. What is not said of its inputs and outputs: F32, with a first dimension of any size.
  struct Port {
    OnnxValue value;
    std::string about;
    Ints shape;  // behind the first dimension
  };
  std::string file(const Port& input, const std::vector<Port>& outputs, const std::string& about,
                   const std::map<std::string, std::string>& metadata) const;

 private:
  std::string fresh(const std::string& name);
  void add_tensor(const std::string& name, const Ints& dims, int type, std::string_view data);

  ProtoMessage graph_;  // its nodes and stored tensors
  std::set<std::string> names_;
  int64_t made_ = 0;
};

}  // namespace qfm
