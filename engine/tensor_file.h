// Files of named tensors: safetensors, or what torch.save wrote; known by their first bytes.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/io.h"
#include "engine/tensor.h"

namespace qfm {

// Reads with every claim of the file checked before it is used: names, dtypes, shapes, places inside the file. Tensors
// are read when they are asked for. Throws Error "PATH: reason".
class TensorFile {
 public:
  struct Entry {
    std::string dtype;  // "F32", "F16", "BF16", "F64", "I32", "I64", "U8", ...
    Shape shape;
    uint64_t begin = 0, end = 0;   // bytes of the file
    std::vector<int64_t> strides;  // in elements; empty: row by row
    std::vector<Entry> parts;      // where given, the tensor is these, one below the other along the first dimension
    bool floating() const { return dtype == "F32" || dtype == "F16" || dtype == "BF16" || dtype == "F64"; }
    uint64_t bytes() const;  // without gaps
  };
  using Entries = std::map<std::string, Entry>;
  using Metadata = std::map<std::string, std::string>;

  static TensorFile open(const std::string& path);

  const std::string& path() const { return file_->path(); }
  const Entries& entries() const { return entries_; }
  const Metadata& metadata() const { return metadata_; }  // of PyTorch's files the texts of the outermost dict
  bool has(const std::string& name) const { return entries_.count(name) != 0; }
  const Entry& entry(const std::string& name) const;  // throws when there is none
  // On the CPU, in the stored dtype; F16 becomes F32. Throws for a dtype that a Tensor does not have.
  Tensor tensor(const std::string& name) const;
  std::vector<unsigned char> bytes(const std::string& name) const;  // row by row

  // The same file with these tensors of it under these names, and these texts.
  TensorFile with(Entries entries, Metadata metadata) const;

 private:
  TensorFile(std::shared_ptr<const InputFile> file, Entries entries, Metadata metadata);
  void read(const Entry& entry, unsigned char* to) const;
  std::shared_ptr<const InputFile> file_;
  Entries entries_;
  Metadata metadata_;
};

// Bytes of an element, 0 for a dtype that no such file has.
size_t element_size(const std::string& dtype);

}  // namespace qfm
