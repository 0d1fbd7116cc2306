#include "tools/onnx/onnx_graph.h"

namespace qfm {
namespace {

// Numbers of fields and types, as onnx.proto has them.
namespace model {
enum { ir_version = 1, producer_name = 2, doc_string = 6, graph = 7, opset_import = 8, metadata = 14 };
}
namespace graph { enum { node = 1, name = 2, initializer = 5, input = 11, output = 12 }; }
namespace operation { enum { input = 1, output = 2, name = 3, op_type = 4, attribute = 5 }; }
namespace attribute { enum { name = 1, f = 2, i = 3, ints = 8, type = 20, kFloat = 1, kInt = 2, kInts = 7 }; }
namespace stored { enum { dims = 1, data_type = 2, name = 8, raw_data = 9, kFloat = 1, kInt64 = 7 }; }
constexpr int64_t kIrVersion = 8, kOpset = 17;

ProtoMessage attribute_message(const char* name, const std::variant<int64_t, double, OnnxGraph::Ints>& value) {
  ProtoMessage m;
  m.bytes(attribute::name, name);
  if (const auto* i = std::get_if<int64_t>(&value)) {
    m.integer(attribute::i, *i).integer(attribute::type, attribute::kInt);
  } else if (const auto* f = std::get_if<double>(&value)) {
    m.real(attribute::f, static_cast<float>(*f)).integer(attribute::type, attribute::kFloat);
  } else {
    for (const int64_t i : std::get<OnnxGraph::Ints>(value)) m.integer(attribute::ints, i);
    m.integer(attribute::type, attribute::kInts);
  }
  return m;
}

// ValueInfoProto { name, type { tensor_type { elem_type, shape { dim { value or parameter } } } }, doc_string }
ProtoMessage port_message(const OnnxGraph::Port& port) {
  ProtoMessage shape, tensor_type, type, m;
  shape.message(1, ProtoMessage().bytes(2, "crops"));
  for (const int64_t d : port.shape) shape.message(1, ProtoMessage().integer(1, d));
  tensor_type.integer(1, stored::kFloat).message(2, shape);
  type.message(1, tensor_type);
  m.bytes(1, port.value).message(2, type).bytes(3, port.about);
  return m;
}

std::string_view raw(const void* data, size_t bytes) { return {static_cast<const char*>(data), bytes}; }

}  // namespace

std::string OnnxGraph::fresh(const std::string& name) {
  std::string result = name;
  for (int i = 2; !names_.insert(result).second; ++i) result = concat(name, ".", i);
  return result;
}

OnnxValue OnnxGraph::node(const char* op, const std::vector<OnnxValue>& inputs, const Attributes& attributes,
                          const std::string& name) {
  ProtoMessage m;
  for (const OnnxValue& value : inputs) m.bytes(operation::input, value);
  const OnnxValue result = fresh(name.empty() ? concat(op, "_", ++made_) : name);
  m.bytes(operation::output, result).bytes(operation::name, result).bytes(operation::op_type, op);
  for (const auto& [key, value] : attributes) m.message(operation::attribute, attribute_message(key, value));
  graph_.message(graph::node, m);
  return result;
}

void OnnxGraph::add_tensor(const std::string& name, const Ints& dims, int type, std::string_view data) {
  ProtoMessage m;
  for (const int64_t d : dims) m.integer(stored::dims, d);
  m.integer(stored::data_type, type).bytes(stored::name, name).bytes(stored::raw_data, data);
  graph_.message(graph::initializer, m);
}

OnnxValue OnnxGraph::tensor(const std::string& name, const Tensor& t) {
  const OnnxValue value = fresh(name);
  add_tensor(value, Ints(t.shape().begin(), t.shape().end()), stored::kFloat, raw(t.data<float>(), t.bytes()));
  return value;
}

OnnxValue OnnxGraph::number(double value) {
  const OnnxValue name = fresh(concat("number_", ++made_));
  const auto f = static_cast<float>(value);
  add_tensor(name, {}, stored::kFloat, raw(&f, sizeof f));
  return name;
}

OnnxValue OnnxGraph::index(int64_t value) {
  const OnnxValue name = fresh(concat("index_", ++made_));
  add_tensor(name, {}, stored::kInt64, raw(&value, sizeof value));
  return name;
}

OnnxValue OnnxGraph::ints(const Ints& values) {
  const OnnxValue name = fresh(concat("ints_", ++made_));
  add_tensor(name, {static_cast<int64_t>(values.size())}, stored::kInt64, raw(values.data(), 8 * values.size()));
  return name;
}

std::string OnnxGraph::file(const Port& input, const std::vector<Port>& outputs, const std::string& about,
                            const std::map<std::string, std::string>& metadata) const {
  ProtoMessage g = graph_;
  g.bytes(graph::name, "qfm").message(graph::input, port_message(input));
  for (const Port& port : outputs) g.message(graph::output, port_message(port));
  ProtoMessage m;
  m.integer(model::ir_version, kIrVersion).bytes(model::producer_name, "qfm").bytes(model::doc_string, about);
  m.message(model::opset_import, ProtoMessage().bytes(1, "").integer(2, kOpset));
  for (const auto& [key, value] : metadata) m.message(model::metadata, ProtoMessage().bytes(1, key).bytes(2, value));
  m.message(model::graph, g);
  QFM_CHECK(m.str().size() < size_t{1} << 31, "an ONNX file of 2 GiB or more, which the format does not have");
  return m.str();
}

}  // namespace qfm
