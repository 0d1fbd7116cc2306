// Inside host-CUDA only: the shared memory of a block. It starts as NaN. Where ASan does not watch it, each
// piece lies between two guard bands, which are NaN too: a read past the end gives NaN, a write is found when
// the block ends.
#pragma once
#include <cstdlib>
#include <memory>
#include <vector>

#include "engine/cuda/host/language.h"

namespace qfm::host_cuda {

struct SharedPiece {
  const void* key;
  const char* name;
  Where where;  // its declaration
  size_t bytes;
  std::unique_ptr<char, decltype(&std::free)> memory;  // band, data, band

  char* data() const { return memory.get() + kBand; }
  bool holds(const void* p, size_t size) const { return p >= data() && end(p, size) <= data() + bytes; }
  // Whether some of [p, p + size) is in a band.
  bool band_holds(const void* p, size_t size) const {
    return p < data() + bytes + kBand && end(p, size) > memory.get() && !holds(p, size);
  }
  bool damaged() const;

#ifdef QFM_ASAN
  static constexpr size_t kBand = 0;  // a heap block of the exact size
#else
  static constexpr size_t kBand = 128;
#endif

 private:
  static const char* end(const void* p, size_t size) { return static_cast<const char*>(p) + size; }
};

class SharedMemory {
 public:
  // Only the dynamic piece is left. Throws OutOfMemory.
  void start(size_t dynamic_bytes);
  // Null: no piece has this key.
  void* find(const void* key) const;
  void* add(const void* key, const char* name, size_t bytes, Where where);
  size_t static_bytes() const;
  char* dynamic() const { return pieces_[0].data(); }
  const std::vector<SharedPiece>& pieces() const { return pieces_; }
  bool holds(const void* p, size_t size) const;
  void clear() { pieces_.clear(); }

 private:
  std::vector<SharedPiece> pieces_;  // the first is the dynamic one
};

}  // namespace qfm::host_cuda
