// Starting a model from the weights of a file.
#pragma once
#include <string>

#include "models/model.h"

namespace qfm {

// Fills the backbone from a checkpoint of others (models/weight_names.h; its classifier is left out), or the whole model from
// one of ours. Strict like load_model, but for what the backbone can resample (the position embedding of another grid), and
// a checkpoint without a feature selection head or a variance, which leaves the model's as it is. Throws Error
// "PATH: reason"; nothing has then changed.
void load_pretrained(Model& model, const std::string& path);

}  // namespace qfm
