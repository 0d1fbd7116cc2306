// Every kind of backbone and head by name: as typed, as described in a checkpoint, as found in files of others.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/model.h"

namespace qfm {

// What --arch and --head take.
const std::vector<std::string>& architectures();
const std::vector<std::string>& head_types();

// A named architecture with a head. convention: "deit" (v1) or "deit3", of the ViTs. Throws Error that lists the
// known names.
ModelConfig model_config(const std::string& arch, const std::string& convention = "deit",
                         const std::string& head = "query_decoder");

// From the JSON that a config's json() gives. Throws Error for an unknown type, sizes beyond any sense, and what
// is missing.
std::shared_ptr<const BackboneConfig> backbone_from_json(const std::string& json);
std::shared_ptr<const HeadConfig> head_from_json(const std::string& json);

// A head of a type as it is made where nothing else is asked for, and the type of one.
std::shared_ptr<const HeadConfig> standard_head(const std::string& type);
std::string type_of(const HeadConfig& head);

// The architecture of a file under timm's names (models/weight_names.h), as it is there, or none.
std::optional<ModelConfig> stored_config(const TensorFile& file);
// The same for images of 224 x 224, or what is just below and divides into its patches.
std::optional<ModelConfig> find_timm_config(const TensorFile& file);
// Throws Error "PATH: reason" for none.
ModelConfig timm_config(const TensorFile& file);

}  // namespace qfm
