// Memory of tensors: a caching allocator with counters, and allocation failures that tests can order.
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/memory/device.h"

namespace qfm {

// Blocks are aligned to 64 bytes (CPU) and handed back to a free list for their exact rounded size; when the
// system has no more, the free lists are emptied and the request tried again. Contents are not initialised.
// CUDA memory is reused in the order of the compute stream: it may be released as soon as the last kernel
// that uses it has been launched. Throws OutOfMemory. release(nullptr) is fine; release never throws.
void* allocate(Device device, size_t bytes);
void release(Device device, void* block, size_t bytes) noexcept;
// Gives cached free blocks back to the system.
void release_cached(Device device) noexcept;

struct MemoryCount {
  size_t live = 0;           // bytes in use now
  size_t peak = 0;           // highest live since the last reset_peak
  size_t cached = 0;         // bytes kept on free lists
  uint64_t allocations = 0;  // calls of allocate so far
};
MemoryCount memory_count(Device device);
void reset_peak(Device device);

// For tests: the n-th allocation from now (1 = the next), on any device, throws OutOfMemory, once. 0 cancels.
void fail_allocation(uint64_t n);

// Copies between devices, in the order of the compute stream; to or from the CPU it returns when the
// copy is done.
void copy_bytes(Device to, void* dst, Device from, const void* src, size_t bytes);
void zero_bytes(Device device, void* dst, size_t bytes);

// What a CUDA graph was captured with: while a Scope lives, CUDA memory comes from the pool's own blocks,
// else from the cache or the system, and stays with the pool until the pool is destroyed (all of it counts as
// in use). Blocks that a tensor still holds then become ordinary ones. One scope at a time.
class MemoryPool {
 public:
  MemoryPool() = default;
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  class Scope {
   public:
    explicit Scope(MemoryPool& pool);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
  };
};

// Page-locked memory of the host, for copies that overlap with kernels. Throws OutOfMemory.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  size_t bytes() const { return bytes_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  size_t bytes_;
  void* data_;
};

// Device memory for one CUDA kernel's partial results, from the caching allocator. It may go out of
// scope as soon as the kernel has been launched: blocks are reused in the order of the stream. Not
// initialised. Throws OutOfMemory.
class DeviceScratch {
 public:
  explicit DeviceScratch(size_t bytes) : bytes_(bytes), data_(allocate(cuda_device, bytes)) {}
  ~DeviceScratch() { release(cuda_device, data_, bytes_); }
  DeviceScratch(const DeviceScratch&) = delete;
  DeviceScratch& operator=(const DeviceScratch&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  size_t bytes_;
  void* data_;
};

// Scratch memory of the calling thread, for CPU kernels that pack or transpose. Last in, first out; the
// memory is kept for the next use. Aligned to 64 bytes, not initialised.
class Scratch {
 public:
  explicit Scratch(size_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_;
  size_t mark_block_, mark_used_;
};

}  // namespace qfm
