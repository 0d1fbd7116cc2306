#include "engine/cuda/host/shared_memory.h"

#include <algorithm>
#include <cstring>

#include "engine/base/error.h"

namespace qfm::host_cuda {
namespace {

constexpr uint8_t kGuard = 0xfe;  // NaN in every float format, and not what fresh memory holds

}  // namespace

bool SharedPiece::damaged() const {
  const auto touched = [](const char* band) {
    return std::any_of(band, band + kBand, [](char c) { return static_cast<uint8_t>(c) != kGuard; });
  };
  return touched(memory.get()) || touched(data() + bytes);
}

void SharedMemory::start(size_t dynamic_bytes) {
  pieces_.clear();
  add(nullptr, "the dynamic piece", dynamic_bytes, Where());
}

void* SharedMemory::add(const void* key, const char* name, size_t bytes, Where where) {
  constexpr size_t kBand = SharedPiece::kBand;
  void* p = nullptr;
  if (posix_memalign(&p, 128, std::max<size_t>(bytes + 2 * kBand, 1)) != 0)
    throw OutOfMemory("host-CUDA: no memory for shared memory", __FILE__, __LINE__);
  auto* memory = static_cast<char*>(p);
  std::memset(memory, kGuard, kBand);
  std::memset(memory + kBand, 0xff, bytes);
  std::memset(memory + kBand + bytes, kGuard, kBand);
  pieces_.push_back({key, name, where, bytes, {memory, &std::free}});
  return pieces_.back().data();
}

void* SharedMemory::find(const void* key) const {
  for (size_t i = 1; i < pieces_.size(); ++i)
    if (pieces_[i].key == key) return pieces_[i].data();
  return nullptr;
}

size_t SharedMemory::static_bytes() const {
  size_t total = 0;
  for (size_t i = 1; i < pieces_.size(); ++i) total += pieces_[i].bytes;
  return total;
}

bool SharedMemory::holds(const void* p, size_t size) const {
  return std::any_of(pieces_.begin(), pieces_.end(), [&](const SharedPiece& s) { return s.holds(p, size); });
}

}  // namespace qfm::host_cuda
