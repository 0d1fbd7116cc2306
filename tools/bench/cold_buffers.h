// Arrays to time a kernel with: several copies of each, so that a call that takes the next one every time
// finds none of it in a cache.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/tensor.h"
#include "tools/cli/command.h"

namespace qfm {

// One array, several times over, filled with normal numbers (an array of integers with zeros).
class BufferTurns {
 public:
  BufferTurns(Shape shape, DType dtype, Device device, size_t copies);
  const Tensor& operator[](size_t turn) const { return copies_[turn % copies_.size()]; }

 private:
  std::vector<Tensor> copies_;
};

// Makes the buffers of one call.
struct ColdBuffers {
  // So many copies that those of a call that moves `bytes` make up `cold_bytes` bytes at least: four times
  // the last cache. But no more than kMostCopies: of a few numbers only the launch counts.
  static constexpr int kMostCopies = 1024;
  ColdBuffers(Placement where, double bytes, int64_t cold_bytes);
  // An array of the placement's type, or of the type it accumulates in.
  BufferTurns operator()(Shape shape, bool accumulator = false) const {
    return (*this)(shape, accumulator ? acc_of(where.dtype) : where.dtype);
  }
  BufferTurns operator()(Shape shape, DType dtype) const { return BufferTurns(shape, dtype, where.device, copies); }

  Placement where;
  size_t copies;
};

}  // namespace qfm
