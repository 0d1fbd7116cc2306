#include "models/convert.h"

#include <map>

#include "engine/int8_matrix.h"
#include "models/backbones/vit.h"
#include "models/checkpoint.h"
#include "models/pretrained.h"
#include "models/registry.h"
#include "models/weight_names.h"

namespace qfm {
namespace {

using Names = Conversion::Names;

bool is_ours(const TensorFile& file) { return file.metadata().count("qfm") != 0; }

ModelInfo info_of(const TensorFile& file) {
  if (is_ours(file)) return read_model_info(file);
  const auto config = stored_config(file);
  return config ? ModelInfo(*config) : ModelInfo(timm_config(file));  // the latter says what it is
}

// The same with what was asked of patches and grid.
void resize(ModelInfo& info, const Conversion& c, const std::string& path) {
  if (c.patch == 0 && c.rows == 0) return;
  const FeatureShape shape = info.config.features();
  const auto sizes = info.config.backbone->transformer();
  QFM_CHECK(sizes, path, ": ", info.config.arch, " has no patches");
  info.config.backbone = info.config.backbone->on_grid(c.patch ? c.patch : sizes->patch, c.rows ? c.rows : shape.rows,
                                                       c.rows ? c.cols : shape.cols);
  info.crop = info.config.features().image_height;
}

// What a file in eight bits holds, where `file` is the one that the model was read from.
NamedTensors int8_tensors(const ParamSet& params, const TensorFile& file) {
  NamedTensors tensors;
  for (const Param& p : params.params())
    if (!p.saved()) continue;
    else if (p.decay()) add_int8(tensors, p.name(), to_int8(p.master(), concat(file.path(), ": ", p.name())));
    else tensors.emplace_back(p.name(), file.tensor(p.name()));
  for (const Buffer& b : params.buffers()) tensors.emplace_back(b.name(), file.tensor(b.name()));
  return tensors;
}

StoreAs store_as(WeightsAs weights) {
  return weights == WeightsAs::BF16  ? StoreAs::BF16
         : weights == WeightsAs::F16 ? StoreAs::F16
                                     : StoreAs::AsIs;
}

StoreAs stored_as(const std::string& dtype) {
  return dtype == "BF16" ? StoreAs::BF16 : dtype == "F16" ? StoreAs::F16 : StoreAs::AsIs;
}

TensorFile::Metadata metadata_for(const TensorFile& file, const ModelInfo& info, bool int8) {
  if (is_ours(file)) return checkpoint_metadata(info, int8);
  TensorFile::Metadata metadata{{"format", "pt"}};
  if (const auto origin = file.metadata().find(kOrigin); origin != file.metadata().end()) metadata.insert(*origin);
  return metadata;
}

}  // namespace

void convert_model(const std::string& from, const std::string& to, const Conversion& conversion) {
  const TensorFile file = open_weights(from);
  ModelInfo info = info_of(file);
  const bool ours = is_ours(file), int8 = conversion.weights ? conversion.weights == WeightsAs::Int8 : info.int8;
  const Names names = conversion.names.value_or(ours ? Names::Ours : Names::Timm);
  QFM_CHECK(ours || names == Names::Timm, from,
            ": a backbone without a quality head: --to timm, which qfm train --init takes");
  QFM_CHECK(names == Names::Ours || conversion.weights != WeightsAs::Int8, from, ": --dtype int8 is for QFM's names");
  resize(info, conversion, from);
  if (ours) check_description(info, from);
  Model model(info.config, cpu_device, DType::F32, false);
  load_pretrained(model, from);
  if (int8 && names == Names::Ours) {
    QFM_CHECK(conversion.patch == 0 && conversion.rows == 0, from,
              ": --patch and --grid before --dtype int8, not with it");
    return write_safetensors(to, int8_tensors(model.params, file), metadata_for(file, info, true));
  }
  const std::string prefix = info.config.backbone->prefix();
  NamedTensors tensors;
  std::map<std::string, StoreAs> stored;
  for (const auto& [name, tensor] : model.params.saved()) {
    if (!ours && !name.starts_with(prefix)) continue;
    const std::string timm = timm_name(name, prefix), there = ours ? name : timm, here = names == Names::Timm ? timm : name;
    stored[here] = conversion.weights ? store_as(*conversion.weights) : stored_as(file.entry(there).dtype);
    tensors.emplace_back(here, tensor);
  }
  write_safetensors(to, tensors, metadata_for(file, info, false),
                    [&](const std::string& name) { return stored.at(name); });
}

}  // namespace qfm
