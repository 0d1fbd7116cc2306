// Parameters and buffers from a file of tensors.
#pragma once
#include <map>
#include <string>

#include "engine/param.h"
#include "engine/tensor_file.h"

namespace qfm {

// Copies tensors of `file` into the masters and buffers, `prefix` + file name = name in the set; strict: one Error
// names every missing, extra and misshapen tensor, and nothing has then been copied. `skip(name)`: what the file
// may have and the model not; `instead` replaces tensors of the file, or those that it lacks, by name. A matrix may be
// I8, with its scales beside it (engine/int8_matrix.h).
void load_params(ParamSet& params, const TensorFile& file, const std::string& prefix,
                 bool (*skip)(const std::string&), const std::map<std::string, Tensor>& instead = {});

}  // namespace qfm
