#include "engine/tensor_file.h"

#include <cstring>
#include <span>
#include <utility>

#include "engine/base/half.h"
#include "engine/pytorch/pytorch_file.h"
#include "engine/safetensors.h"

namespace qfm {
namespace {

DType tensor_dtype(const std::string& dtype) {
  if (dtype == "F32" || dtype == "F16") return DType::F32;
  if (dtype == "BF16") return DType::BF16;
  if (dtype == "F64") return DType::F64;
  if (dtype == "I32") return DType::I32;
  if (dtype == "I64") return DType::I64;
  if (dtype == "I8") return DType::I8;
  QFM_FAIL("dtype ", dtype, " cannot be a tensor here");
}

bool row_by_row(const Shape& shape, const std::vector<int64_t>& strides) {
  int64_t step = 1;
  for (int i = shape.rank(); i-- > 0;) {
    if (shape[i] != 1 && strides[static_cast<size_t>(i)] != step) return false;
    step *= shape[i];
  }
  return true;
}

TensorFile::Entry entry_of(const std::string& path, const std::string& name, const PyTorchTensor& t) {
  TensorFile::Entry e{t.dtype, {}, t.begin, t.end, t.strides, {}};
  try {
    e.shape = Shape(std::span<const int64_t>(t.shape));
  } catch (const Error& error) {
    QFM_FAIL(path, ": tensor '", name, "': ", error.what());
  }
  if (e.shape.numel() == 0 || row_by_row(e.shape, e.strides)) e.strides.clear();
  return e;
}

// Copies elements that lie `strides` apart, row by row.
void gather(const unsigned char* from, unsigned char* to, const TensorFile::Entry& e, size_t size) {
  std::vector<int64_t> at(e.strides.size(), 0);
  int64_t offset = 0;
  for (int64_t i = 0, n = e.shape.numel(); i < n; ++i) {
    std::memcpy(to + static_cast<size_t>(i) * size, from + static_cast<size_t>(offset) * size, size);
    for (size_t d = at.size(); d-- > 0;) {
      offset += e.strides[d];
      if (++at[d] < e.shape[static_cast<int>(d)]) break;
      offset -= at[d] * e.strides[d], at[d] = 0;
    }
  }
}

}  // namespace

size_t element_size(const std::string& dtype) {
  static const std::map<std::string, size_t> sizes{
      {"F64", 8},  {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4}, {"U32", 4}, {"F16", 2},
      {"BF16", 2}, {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}};
  const auto it = sizes.find(dtype);
  return it == sizes.end() ? 0 : it->second;
}

uint64_t TensorFile::Entry::bytes() const { return static_cast<uint64_t>(shape.numel()) * element_size(dtype); }

TensorFile::TensorFile(std::shared_ptr<const InputFile> file, Entries entries, Metadata metadata)
    : file_(std::move(file)), entries_(std::move(entries)), metadata_(std::move(metadata)) {}

TensorFile TensorFile::open(const std::string& path) {
  auto file = std::make_shared<const InputFile>(path);
  Entries entries;
  if (looks_like_pytorch(*file)) {
    PyTorchContents contents = read_pytorch(*file);
    for (const auto& [name, tensor] : contents.tensors) entries[name] = entry_of(path, name, tensor);
    return {std::move(file), std::move(entries), std::move(contents.texts)};
  }
  Metadata metadata;
  read_safetensors(*file, entries, metadata);
  return {std::move(file), std::move(entries), std::move(metadata)};
}

TensorFile TensorFile::with(Entries entries, Metadata metadata) const {
  return {file_, std::move(entries), std::move(metadata)};
}

const TensorFile::Entry& TensorFile::entry(const std::string& name) const {
  const auto it = entries_.find(name);
  QFM_CHECK(it != entries_.end(), path(), ": has no tensor '", name, "'");
  return it->second;
}

void TensorFile::read(const Entry& e, unsigned char* to) const {
  for (const Entry& part : e.parts) read(part, to), to += part.bytes();
  if (!e.parts.empty()) return;
  if (e.strides.empty()) return file_->read(e.begin, to, e.bytes());
  std::vector<unsigned char> storage(e.end - e.begin);
  file_->read(e.begin, storage.data(), storage.size());
  gather(storage.data(), to, e, element_size(e.dtype));
}

std::vector<unsigned char> TensorFile::bytes(const std::string& name) const {
  const Entry& e = entry(name);
  std::vector<unsigned char> data(e.bytes());
  read(e, data.data());
  return data;
}

Tensor TensorFile::tensor(const std::string& name) const {
  const Entry& e = entry(name);
  Tensor t;
  try {
    t = Tensor(e.shape, tensor_dtype(e.dtype));
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error& error) {
    QFM_FAIL(path(), ": tensor '", name, "': ", error.what());
  }
  if (e.dtype != "F16") {
    read(e, static_cast<unsigned char*>(t.raw()));
    return t;
  }
  const auto raw = bytes(name);
  auto values = t.span<float>();
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = half_to_float(static_cast<uint16_t>(raw[2 * i] | raw[2 * i + 1] << 8));
  return t;
}

}  // namespace qfm
