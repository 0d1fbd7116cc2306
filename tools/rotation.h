// Arrays to time a kernel with: several copies of each, so that a call that takes the next one every time
// finds none of it in a cache.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/tensor.h"
#include "tools/command.h"

namespace qfm {

// One array, several times over, filled with normal numbers.
class Buffer {
 public:
  Buffer(Shape shape, DType dtype, Device device, size_t copies);
  const Tensor& operator[](size_t turn) const { return copies_[turn % copies_.size()]; }

 private:
  std::vector<Tensor> copies_;
};

// Makes the buffers of one call.
struct Rotation {
  // So many copies that those of a call that moves `bytes` make up `beyond` bytes at least: four times the
  // last cache.
  Rotation(Placement where, double bytes, int64_t beyond);
  // Of the placement's type, or of the type it accumulates in.
  Buffer operator()(Shape shape, bool accumulator = false) const;

  Placement where;
  size_t copies;
};

}  // namespace qfm
