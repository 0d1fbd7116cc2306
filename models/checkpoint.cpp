#include "models/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

namespace qfm {
namespace {

using nlohmann::ordered_json;

ordered_json to_json(const ModelInfo& info) {
  const VitConfig& v = info.config.vit;
  const QueryDecoderConfig& p = info.config.panel;
  ordered_json j{{"format", 1},
                 {"name", info.name},
                 {"arch", info.config.arch},
                 {"vit",
                  {{"image_height", v.image_height},
                   {"image_width", v.image_width},
                   {"patch", v.patch},
                   {"width", v.width},
                   {"depth", v.depth},
                   {"heads", v.heads},
                   {"layer_scale", v.layer_scale},
                   {"pos_embed_on_cls", v.pos_embed_on_cls},
                   {"eps", v.eps}}},
                 {"decoder", {{"judges", p.judges}, {"heads", p.heads}, {"eps", p.eps}}},
                 {"select", info.config.select},
                 {"preprocessing",
                  {{"crop", info.crop},
                   {"resize", info.resize.side},
                   {"resize_to", {info.resize.height, info.resize.width}},
                   {"mean", info.mean},
                   {"std", info.std}}},
                 {"labels",
                  {{"scaled", info.labels_scaled},
                   {"low", info.label_low},
                   {"high", info.label_high},
                   {"higher_is_better", info.higher_is_better}}},
                 {"training_set", info.training_set},
                 {"command", info.command},
                 {"seed", info.seed},
                 {"version", info.version}};
  if (info.truncated_schedule) j["schedule"] = "truncated";
  return j;
}

ModelInfo from_json(const ordered_json& j) {
  ModelInfo info;
  QFM_CHECK(j.at("format") == 1, "checkpoint format ", j.at("format").dump(), ", this program reads 1");
  VitConfig& v = info.config.vit;
  QueryDecoderConfig& p = info.config.panel;
  info.name = j.at("name"), info.config.arch = j.at("arch");
  const auto& vit = j.at("vit");
  v.image_height = vit.at("image_height"), v.image_width = vit.at("image_width"), v.patch = vit.at("patch");
  v.width = vit.at("width"), v.depth = vit.at("depth"), v.heads = vit.at("heads"), v.eps = vit.at("eps");
  v.layer_scale = vit.at("layer_scale"), v.pos_embed_on_cls = vit.at("pos_embed_on_cls");
  const auto& decoder = j.at("decoder");
  p.width = v.width, p.judges = decoder.at("judges"), p.heads = decoder.at("heads"),
  p.eps = decoder.at("eps");
  info.config.select = j.at("select");
  const auto& pre = j.at("preprocessing");
  info.crop = pre.at("crop"), info.resize.side = pre.at("resize"), info.mean = pre.at("mean"),
  info.std = pre.at("std");
  if (pre.contains("resize_to"))
    info.resize.height = pre.at("resize_to").at(0), info.resize.width = pre.at("resize_to").at(1);
  const auto& labels = j.at("labels");
  info.labels_scaled = labels.at("scaled"), info.label_low = labels.at("low"),
  info.label_high = labels.at("high");
  info.higher_is_better = labels.at("higher_is_better");
  info.training_set = j.at("training_set"), info.command = j.at("command"), info.seed = j.at("seed");
  info.version = j.at("version");
  info.truncated_schedule = j.value("schedule", "") == "truncated";
  return info;
}

// A file may claim anything: sizes are bounded before memory is asked for them.
void check_sizes(const ModelInfo& info) {
  const VitConfig& v = info.config.vit;
  const auto within = [](const char* what, int64_t value, int64_t low, int64_t high) {
    QFM_CHECK(value >= low && value <= high, what, " ", value, " is not between ", low, " and ", high);
  };
  within("patch", v.patch, 1, 256), within("image height", v.image_height, v.patch, 4096);
  within("image width", v.image_width, v.patch, 4096), within("width", v.width, 1, 8192),
      within("depth", v.depth, 0, 128);
  within("heads", v.heads, 1, v.width), within("judges", info.config.panel.judges, 1, 1024);
  within("decoder heads", info.config.panel.heads, 1, v.width), within("resize", info.resize.side, 0, 65536);
  if (info.resize.height != 0 || info.resize.width != 0)
    within("resize height", info.resize.height, info.crop, 65536),
        within("resize width", info.resize.width, info.crop, 65536);
  QFM_CHECK(info.crop == v.image_height && info.crop == v.image_width, "crop ", info.crop,
            " is not the image size ", v.image_height, "x", v.image_width);
  QFM_CHECK(info.label_high > info.label_low, "label range ", info.label_low, " to ", info.label_high);
  for (double s : info.std) QFM_CHECK(s > 0, "preprocessing std ", s);
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 8; ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > 8) text += concat(", and ", names.size() - 8, " more");
  return text;
}

}  // namespace

double ModelInfo::quality(double output) const {
  const double scaled = labels_scaled ? output : 100 * (output - label_low) / (label_high - label_low);
  return higher_is_better ? scaled : 100 - scaled;
}
double ModelInfo::raw(double output) const {
  return labels_scaled ? label_low + output / 100 * (label_high - label_low) : output;
}
double ModelInfo::quality_spread(double spread) const {
  return labels_scaled ? spread : 100 * spread / (label_high - label_low);
}
double ModelInfo::raw_spread(double spread) const {
  return labels_scaled ? spread / 100 * (label_high - label_low) : spread;
}

void save_model(const std::string& path, const QfmIqm& model, const ModelInfo& info, StoreAs store) {
  NamedTensors tensors;
  for (const Param& p : model.params.params()) tensors.emplace_back(p.name(), p.master());
  write_safetensors(path, tensors, {{"format", "pt"}, {"qfm", to_json(info).dump()}}, store);
}

ModelInfo read_model_info(const SafeTensors& file) {
  const auto it = file.metadata().find("qfm");
  QFM_CHECK(it != file.metadata().end(), file.path(), ": not a QFM checkpoint (no metadata 'qfm')");
  try {
    ModelInfo info = from_json(ordered_json::parse(it->second));
    check_sizes(info);
    if (info.name.empty()) info.name = std::filesystem::path(file.path()).stem().string();
    return info;
  } catch (const nlohmann::json::exception& e) {
    QFM_FAIL(file.path(), ": metadata 'qfm' is damaged: ", e.what());
  } catch (const Error& e) {
    QFM_FAIL(file.path(), ": metadata 'qfm': ", e.what());
  }
}

void load_params(ParamSet& params, const SafeTensors& file, const std::string& prefix,
                 bool (*skip)(const std::string&), const std::map<std::string, Tensor>& instead) {
  std::vector<std::string> missing, extra, misshapen;
  std::set<std::string> wanted;
  for (const Param& p : params.params()) {
    if (p.name().compare(0, prefix.size(), prefix) != 0) continue;
    const std::string name = p.name().substr(prefix.size());
    wanted.insert(name);
    const auto it = instead.find(name);
    if (it == instead.end() && !file.has(name)) missing.push_back(name);
    else if (!((it == instead.end() ? file.entry(name).shape : it->second.shape()) == p.shape()))
      misshapen.push_back(concat(name, " ", file.entry(name).shape, " instead of ", p.shape()));
  }
  for (const auto& [name, entry] : file.entries())
    if (!wanted.count(name) && !skip(name)) extra.push_back(name);
  std::string reason;
  if (!missing.empty()) reason += "missing " + listed(missing);
  if (!extra.empty()) reason += (reason.empty() ? "" : "; ") + ("not part of this model: " + listed(extra));
  if (!misshapen.empty()) reason += (reason.empty() ? "" : "; ") + ("wrong shape: " + listed(misshapen));
  QFM_CHECK(reason.empty(), file.path(), ": ", reason);
  for (const Param& p : params.params()) {
    if (p.name().compare(0, prefix.size(), prefix) != 0) continue;
    const std::string name = p.name().substr(prefix.size());
    const auto it = instead.find(name);
    p.master().copy_from((it == instead.end() ? file.tensor(name) : it->second).to(p.master().dtype()));
  }
  params.sync();
}

LoadedModel load_model(const std::string& path, Device device, DType compute, bool training) {
  const SafeTensors file = SafeTensors::open(path);
  LoadedModel result{nullptr, read_model_info(file)};
  try {
    result.model = std::make_unique<QfmIqm>(result.info.config, device, compute, training);
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& e) {
    QFM_FAIL(path, ": ", e.what());
  }
  load_params(result.model->params, file, "", [](const std::string&) { return false; });
  if (!training) result.model->freeze();
  return result;
}

}  // namespace qfm
