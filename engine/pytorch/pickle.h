// A strict reader of Python's pickles, as torch.save writes them: nothing is executed, nothing imported. A pickle is a
// program for a small stack machine; this one makes numbers, texts, lists, tuples, dicts, storages and tensors.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/io.h"
#include "engine/pytorch/zip.h"

namespace qfm {

struct PickleValue {
  enum class Kind { None, Number, Text, Sequence, Dict, Name, Storage, Tensor };
  Kind kind = Kind::None;
  int64_t number = 0;  // whole numbers and truth values; of a storage its elements
  std::string text;    // of a name "module.name", of a storage its key
  // Sequence: its values. Dict: key, value, key, value. Storage: the name of its type. Tensor: storage, offset, size,
  // stride, of these kinds. As places in Pickle::values.
  std::vector<uint32_t> items;
};

struct Pickle {
  std::vector<PickleValue> values;  // each may be in several others, or in itself: one does not descend without a bound
  uint32_t top = 0;
  uint64_t end = 0;  // the byte of the file behind it

  const PickleValue& operator[](uint32_t place) const { return values[place]; }
  const PickleValue* find(const PickleValue& dict, const std::string& key) const;  // the last of that key, or null
};

// Throws Error "PATH: pickle asks for os.system: refused" for whatever is not one of these kinds, and "PATH: reason"
// for what is damaged, more than 64 MiB or of more than a million values. Protocols 1 to 5.
Pickle read_pickle(const InputFile& file, ByteRange range);

}  // namespace qfm
