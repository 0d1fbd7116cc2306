#include "engine/load_params.h"

#include <set>
#include <utility>
#include <vector>

namespace qfm {
namespace {

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 8; ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > 8) text += concat(", and ", names.size() - 8, " more");
  return text;
}

}  // namespace

void load_params(ParamSet& params, const SafeTensors& file, const std::string& prefix,
                 bool (*skip)(const std::string&), const std::map<std::string, Tensor>& instead) {
  std::vector<std::string> missing, extra, misshapen;
  std::set<std::string> wanted;
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
    const Shape& given = it == instead.end() ? file.entry(name).shape : it->second.shape();
    if (!(given == target.shape())) misshapen.push_back(concat(name, " ", given, " instead of ", target.shape()));
  }
  for (const auto& [name, entry] : file.entries())
    if (!wanted.count(name) && !skip(name)) extra.push_back(name);
  std::string reason;
  if (!missing.empty()) reason += "missing " + listed(missing);
  if (!extra.empty()) reason += (reason.empty() ? "" : "; ") + ("not part of this model: " + listed(extra));
  if (!misshapen.empty()) reason += (reason.empty() ? "" : "; ") + ("wrong shape: " + listed(misshapen));
  QFM_CHECK(reason.empty(), file.path(), ": ", reason);
  std::vector<Tensor> values;  // all are read before the first is copied: a file cut short leaves the model as it is
  for (const auto& [name, target] : targets) {
    const auto it = instead.find(name);
    values.push_back((it == instead.end() ? file.tensor(name) : it->second).to(target.dtype()));
  }
  for (size_t i = 0; i < targets.size(); ++i) targets[i].second.copy_from(values[i]);
  params.sync();
}

}  // namespace qfm
