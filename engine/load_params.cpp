#include "engine/load_params.h"

#include <set>
#include <utility>
#include <vector>

#include "engine/int8_matrix.h"

namespace qfm {
namespace {

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 8; ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > 8) text += concat(", and ", names.size() - 8, " more");
  return text;
}

// Of a file's tensor; where `plain` is empty, in eight bits, a quarter of the memory.
struct Value {
  Tensor plain;
  Int8Matrix int8;
};

Value read_value(const TensorFile& file, const std::string& name, DType dtype) {
  return holds_int8(file, name) ? Value{{}, read_int8(file, name)} : Value{file.tensor(name).to(dtype), {}};
}

void copy_value(const Tensor& to, const Value& from) {
  from.plain.empty() ? copy_from_int8(to, from.int8) : to.copy_from(from.plain);
}

}  // namespace

void load_params(ParamSet& params, const TensorFile& file, const std::string& prefix,
                 bool (*skip)(const std::string&), const std::map<std::string, Tensor>& instead) {
  std::vector<std::string> missing, extra, misshapen, vectors, whole;
  std::set<std::string> wanted, matrices;
  for (const Param& p : params.params())
    if (p.decay()) matrices.insert(p.name());
  std::vector<std::pair<std::string, Tensor>> targets;  // name in the file, where it goes
  for (const auto& [full_name, target] : params.saved()) {
    if (!full_name.starts_with(prefix)) continue;
    const std::string name = full_name.substr(prefix.size());
    wanted.insert(name), targets.emplace_back(name, target);
    const auto it = instead.find(name);
    if (it == instead.end() && !file.has(name)) {
      missing.push_back(name);
      continue;
    }
    if (it == instead.end() && !file.entry(name).floating() && !holds_int8(file, name))
      whole.push_back(name + " " + file.entry(name).dtype);
    const Shape& given = it == instead.end() ? file.entry(name).shape : it->second.shape();
    if (!(given == target.shape())) misshapen.push_back(concat(name, " ", given, " instead of ", target.shape()));
    if (it == instead.end() && holds_int8(file, name) && !matrices.count(full_name)) vectors.push_back(name);
  }
  for (const auto& [name, entry] : file.entries())
    if (!wanted.count(name) && !holds_int8_scale(file, name) && !skip(name)) extra.push_back(name);
  std::string reason;
  const auto report = [&](const char* what, const std::vector<std::string>& names) {
    if (!names.empty()) reason += (reason.empty() ? "" : "; ") + (what + listed(names));
  };
  report("missing ", missing), report("not part of this model: ", extra), report("wrong shape: ", misshapen);
  report("I8 but no matrix: ", vectors), report("of whole numbers: ", whole);
  QFM_CHECK(reason.empty(), file.path(), ": ", reason);
  std::vector<Value> values;  // all are read before the first is copied: a file cut short leaves the model as it is
  for (const auto& [name, target] : targets) {
    const auto it = instead.find(name);
    const DType dtype = target.dtype();
    values.push_back(it == instead.end() ? read_value(file, name, dtype) : Value{it->second.to(dtype), {}});
  }
  for (size_t i = 0; i < targets.size(); ++i) copy_value(targets[i].second, values[i]);
  params.sync();
}

}  // namespace qfm
