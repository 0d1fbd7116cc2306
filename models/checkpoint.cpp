#include "models/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/load_params.h"
#include "engine/memory/memory.h"
#include "models/registry.h"
#include "models/weight_names.h"
#include "models/within.h"

namespace qfm {
namespace {

using nlohmann::ordered_json;

ordered_json to_json(const ModelInfo& info, bool int8) {
  ordered_json j{{"format", 2},
                 {"name", info.name},
                 {"arch", info.config.arch},
                 {"backbone", ordered_json::parse(info.config.backbone->json())},
                 {"select", info.config.select},
                 {"head", ordered_json::parse(info.config.head->json())},
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
  if (int8) j["weights"] = "int8";
  return j;
}

// The first version knew one backbone, under "vit", and one head, under "decoder", whose queries it called judges.
ModelConfig config_of(const ordered_json& j) {
  ModelConfig c;
  const bool first = j.at("format") == 1;
  QFM_CHECK(first || j.at("format") == 2, "checkpoint format ", j.at("format").dump(), ", this program reads 1 and 2");
  ordered_json backbone = j.at(first ? "vit" : "backbone"), head = j.at(first ? "decoder" : "head");
  if (first) {
    backbone["type"] = "vit";
    head = {{"type", "query_decoder"}, {"queries", head.at("judges")}, {"heads", head.at("heads")}, {"eps", head.at("eps")}};
    head["width"] = backbone.at("width");
  }
  c.arch = j.at("arch"), c.select = j.at("select");
  c.backbone = backbone_from_json(backbone.dump()), c.head = head_from_json(head.dump());
  return c;
}

ModelInfo from_json(const ordered_json& j) {
  ModelInfo info;
  info.config = config_of(j);
  info.name = j.at("name");
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
  info.int8 = j.value("weights", "") == "int8";
  return info;
}

void check_sizes(const ModelInfo& info) {
  const FeatureShape features = info.config.features();
  check_within("resize", info.resize.side, 0, 65536);
  if (info.resize.height != 0 || info.resize.width != 0)
    check_within("resize height", info.resize.height, info.crop, 65536),
        check_within("resize width", info.resize.width, info.crop, 65536);
  QFM_CHECK(info.crop == features.image_height && info.crop == features.image_width, "crop ", info.crop,
            " is not the image size ", features.image_height, "x", features.image_width);
  QFM_CHECK(info.label_high > info.label_low, "label range ", info.label_low, " to ", info.label_high);
  for (double s : info.std) QFM_CHECK(s > 0, "preprocessing std ", s);
}

bool any_int8(const TensorFile& file) {
  const auto& all = file.entries();
  return std::any_of(all.begin(), all.end(), [](const auto& e) { return e.second.dtype == "I8"; });
}

}  // namespace

ModelInfo::ModelInfo(const ModelConfig& c)
    : config(c),
      crop(c.features().image_height),
      mean(c.backbone->pixel_scale().mean),
      std(c.backbone->pixel_scale().std) {}

double ModelInfo::to_0_100(double output) const {
  const double scaled = labels_scaled ? output : 100 * (output - label_low) / (label_high - label_low);
  return higher_is_better ? scaled : 100 - scaled;
}
double ModelInfo::to_label_unit(double output) const {
  return labels_scaled ? label_low + output / 100 * (label_high - label_low) : output;
}
double ModelInfo::std_to_0_100(double spread) const {
  return labels_scaled ? spread : 100 * spread / (label_high - label_low);
}
double ModelInfo::std_to_label_unit(double spread) const {
  return labels_scaled ? spread / 100 * (label_high - label_low) : spread;
}

void save_model(const std::string& path, const Model& model, const ModelInfo& info, StoreAs store) {
  write_safetensors(path, model.params.saved(), checkpoint_metadata(info, false), store);
}

TensorFile::Metadata checkpoint_metadata(const ModelInfo& info, bool int8) {
  TensorFile::Metadata all{{"format", "pt"}, {"qfm", to_json(info, int8).dump()}};
  if (info.calibration) all["interval"] = info.calibration->json();
  return all;
}

namespace {

// f(), an Error of which gets the file's name.
template <class F>
void named(const std::string& path, F&& f) {
  try {
    f();
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& e) {
    QFM_FAIL(path, ": ", e.what());
  }
}

}  // namespace

void check_description(const ModelInfo& info, const std::string& path) {
  named(path, [&] { check_sizes(info); });
}

ModelInfo read_model_info(const TensorFile& file) {
  const auto it = file.metadata().find("qfm");
  QFM_CHECK(it != file.metadata().end(), file.path(), ": not a QFM checkpoint (no metadata 'qfm')");
  try {
    ModelInfo info = from_json(ordered_json::parse(it->second));
    check_sizes(info);
    if (const auto interval = file.metadata().find("interval"); interval != file.metadata().end()) {
      info.calibration = Calibration::from_json(interval->second);
      QFM_CHECK(info.config.head->gives_variance(), "a calibration, but its head gives no variance");
    }
    QFM_CHECK(info.int8 == any_int8(file), info.int8 ? "speaks of INT8 weights, there are none"
                                                     : "does not speak of the INT8 weights that are there");
    if (info.name.empty()) info.name = std::filesystem::path(file.path()).stem().string();
    return info;
  } catch (const nlohmann::json::exception& e) {
    QFM_FAIL(file.path(), ": metadata 'qfm' is damaged: ", e.what());
  } catch (const Error& e) {
    QFM_FAIL(file.path(), ": metadata 'qfm': ", e.what());
  }
}

LoadedModel load_model(const std::string& path, Device device, std::optional<DType> compute, bool training) {
  const TensorFile file = open_weights(path);
  LoadedModel result{nullptr, read_model_info(file), DType::F32};
  const bool int8 = result.info.int8 && device == cpu_device && !training;
  result.dtype = compute.value_or(int8 ? DType::I8 : usual_dtype(device));
  named(path, [&] { result.model = std::make_unique<Model>(result.info.config, device, result.dtype, training); });
  load_params(result.model->params, file, "", [](const std::string&) { return false; });
  if (!training) named(path, [&] { result.model->params.pack(); });
  if (result.dtype == DType::I8) release_cached(cpu_device);  // floats that nothing of their size follows
  return result;
}

}  // namespace qfm
