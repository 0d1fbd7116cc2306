// The safetensors format: 8 bytes of header length (little endian), a JSON header, then the data of all tensors.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/tensor.h"

namespace qfm {

// Reads with every claim of the header checked before it is used: header length, JSON, duplicate names,
// dtypes, shapes, offsets inside the file that neither overlap nor leave holes. Throws Error "PATH: reason".
class SafeTensors {
 public:
  struct Entry {
    std::string dtype;  // "F32", "F16", "BF16", "F64", "I32", "I64", "U8", ...
    Shape shape;
    uint64_t begin = 0, end = 0;  // bytes, from the start of the data
  };

  static SafeTensors open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool has(const std::string& name) const { return entries_.count(name) != 0; }
  const Entry& entry(const std::string& name) const;  // throws when there is none
  // On the CPU, in the stored dtype; F16 becomes F32. Throws for a dtype that a Tensor does not have.
  Tensor tensor(const std::string& name) const;
  std::vector<unsigned char> bytes(const std::string& name) const;

 private:
  void read(uint64_t offset, void* to, size_t bytes) const;
  std::string path_;
  uint64_t data_offset_ = 0;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// For floating tensors; one with a number beyond F16 (65504) is then stored as it is.
enum class StoreAs { AsIs, BF16, F16 };

// Writes atomically, tensors in the given order, data aligned to 8 bytes. Tensors may lie on any device.
// Throws Error "PATH: reason", also for a name used twice.
void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata, StoreAs store = StoreAs::AsIs);

// IEEE half precision, round to nearest even.
float half_to_float(uint16_t h);
uint16_t float_to_half(float f);

}  // namespace qfm
