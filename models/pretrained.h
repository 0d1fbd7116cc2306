// Starting a model from the weights of a file.
#pragma once
#include <optional>
#include <string>

#include "models/checkpoint.h"

namespace qfm {

// Fills the backbone from a checkpoint of others (models/weight_names.h; its classifier is left out), or the whole model from
// one of ours. Strict like load_model, but for what the backbone can resample (the position embedding of another grid), and
// a checkpoint without a feature selection head or a variance, which leaves the model's as it is. Throws Error
// "PATH: reason"; nothing has then changed.
void load_pretrained(Model& model, const std::string& path);

// The description of a checkpoint of ours, or of the backbone in a file of others with the head of a new model.
ModelInfo backbone_info(const std::string& path);
// Either, ready for inference: a backbone of others has a head of random values, for its features need none. Without
// `compute`: as load_model.
LoadedModel load_backbone(const std::string& path, Device device, std::optional<DType> compute);

}  // namespace qfm
