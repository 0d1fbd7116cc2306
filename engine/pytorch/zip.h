// Where the members of a zip archive lie that holds them as they are, as PyTorch's do.
#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "engine/base/io.h"

namespace qfm {

struct ByteRange {
  uint64_t begin = 0, end = 0;  // in the file
  uint64_t size() const { return end - begin; }
};

// By name. Throws Error "PATH: reason" for a directory that is damaged, large or names a member twice, and for members
// that are compressed, encrypted or not wholly in the file.
std::map<std::string, ByteRange> zip_members(const InputFile& file);

}  // namespace qfm
