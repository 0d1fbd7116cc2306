// The names of other programs, brought to those that this one knows.
#pragma once
#include <string>

#include "engine/tensor_file.h"

namespace qfm {

// A file of weights under our names (where its metadata has "qfm") or timm's. Known besides: "module." before every
// name, as DataParallel writes it; torchvision's and Hugging Face's Vision Transformers, DINOv2's among them, whose
// classifier, pooler and mask token are left out and whose q, k and v are joined; ours under timm's names (timm_name).
// Throws Error "PATH: reason".
TensorFile open_weights(const std::string& path);

// What a parameter of ours is called in a file for timm: the backbone's as timm has it, others with "qfm." in front.
std::string timm_name(const std::string& name, const std::string& backbone_prefix);

}  // namespace qfm
