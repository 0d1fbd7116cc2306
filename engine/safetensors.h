// The safetensors format: 8 bytes of header length (little endian), a JSON header, then the data of all tensors.
#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "engine/tensor_file.h"

namespace qfm {

// The header's entries and texts, each claim checked before it is used: header length, JSON, duplicate names, dtypes,
// shapes, offsets inside the file that neither overlap nor leave holes. Throws Error "PATH: reason".
void read_safetensors(const InputFile& file, TensorFile::Entries& entries, TensorFile::Metadata& metadata);

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// For floating tensors; one with a number beyond F16 (65504) is then stored as it is.
enum class StoreAs { AsIs, BF16, F16 };

// Writes atomically, tensors in the given order, data aligned to 8 bytes, each stored as `store` says of its name.
// Tensors may lie on any device. Throws Error "PATH: reason", also for a name used twice.
void write_safetensors(const std::string& path, const NamedTensors& tensors, const TensorFile::Metadata& metadata,
                       const std::function<StoreAs(const std::string& name)>& store);
inline void write_safetensors(const std::string& path, const NamedTensors& tensors,
                              const TensorFile::Metadata& metadata, StoreAs store = StoreAs::AsIs) {
  write_safetensors(path, tensors, metadata, [store](const std::string&) { return store; });
}

}  // namespace qfm
