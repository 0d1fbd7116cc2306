#include "engine/memory/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "engine/base/error.h"
#include "engine/cuda/cuda.h"

namespace qfm {
namespace {

constexpr size_t kHuge = size_t{2} << 20;

// Large blocks on 2 MiB boundaries may get huge pages: fewer TLB misses and page faults in every step. Not their ends,
// which are rarely full: a huge page is there as a whole.
void* system_get(Device device, size_t bytes) {
  if (device.kind == Device::Kind::Cuda) return cuda::system_allocate(bytes);
  void* p = std::aligned_alloc(bytes >= kHuge ? kHuge : 64, bytes);
  if (p && bytes > kHuge) madvise(p, bytes - kHuge, MADV_HUGEPAGE);
  return p;
}
void system_put(Device device, void* p) noexcept {
  if (device.kind == Device::Kind::Cuda) cuda::system_release(p);
  else std::free(p);
}

size_t rounded(size_t bytes) {
  const size_t unit = bytes >= kHuge ? kHuge : bytes >= 4096 ? 4096 : 64;
  return (std::max<size_t>(bytes, 1) + unit - 1) / unit * unit;
}

std::atomic<uint64_t> failure_countdown{0};

bool ordered_failure() {
  uint64_t left = failure_countdown.load(std::memory_order_relaxed);
  while (left != 0)
    if (failure_countdown.compare_exchange_weak(left, left - 1)) return left == 1;
  return false;
}

class CachingAllocator {
 public:
  explicit CachingAllocator(Device device) : device_(device) {}
  ~CachingAllocator() { trim(); }

  void* get(size_t bytes) {
    const size_t size = rounded(bytes);
    QFM_CHECK(size >= bytes, "memory: ", bytes, " bytes is too large");
    std::lock_guard lock(mutex_);
    ++count_.allocations;
    void* p = ordered_failure() ? nullptr : pool_ ? take_for_pool(size) : take(size);
    if (!p)
      throw OutOfMemory(concat("out of memory on ", name_of(device_), ": ", bytes, " bytes wanted, ",
                               count_.live, " in use"),
                        __FILE__, __LINE__);
    return p;
  }

  void put(void* p, size_t bytes) noexcept {
    std::lock_guard lock(mutex_);
    if (const auto block = pooled_.find(p); block != pooled_.end()) block->second.free = true;
    else put_locked(p, rounded(bytes));
  }

  void trim() noexcept {
    std::lock_guard lock(mutex_);
    trim_locked();
  }
  MemoryCount count() {
    std::lock_guard lock(mutex_);
    return count_;
  }
  void reset_peak() {
    std::lock_guard lock(mutex_);
    count_.peak = count_.live;
  }

  // From now on memory is taken for `pool`; null: for no pool.
  void use_pool(const MemoryPool* pool) {
    std::lock_guard lock(mutex_);
    QFM_CHECK(!pool || !pool_, "memory: two pools in use at once");
    pool_ = pool;
  }
  void drop_pool(const MemoryPool* pool) noexcept {
    std::lock_guard lock(mutex_);
    for (auto it = pooled_.begin(); it != pooled_.end();) {
      const auto [p, block] = *it;
      if (block.pool != pool) {
        ++it;
        continue;
      }
      it = pooled_.erase(it);
      if (block.free) put_locked(p, block.size);
    }
  }

 private:
  struct PooledBlock {
    const MemoryPool* pool;
    size_t size;
    bool free;
  };

  void* take_for_pool(size_t size) {
    for (auto& [p, block] : pooled_)
      if (block.pool == pool_ && block.size == size && block.free) {
        block.free = false;
        return p;
      }
    void* p = take(size);
    if (!p) return nullptr;
    try {
      pooled_.emplace(p, PooledBlock{pool_, size, false});
    } catch (...) {
      put_locked(p, size);
      throw;
    }
    return p;
  }
  void* take(size_t size) {
    void* p = nullptr;
    const auto it = free_.find(size);
    if (it != free_.end() && !it->second.empty()) {
      p = it->second.back();
      it->second.pop_back();
      count_.cached -= size;
    } else {
      p = system_get(device_, size);
      if (!p && !pool_) {  // giving memory back waits for the device, which a capture cannot
        trim_locked();
        p = system_get(device_, size);
      }
      if (!p) return nullptr;
    }
    count_.live += size;
    count_.peak = std::max(count_.peak, count_.live);
    return p;
  }
  void put_locked(void* p, size_t size) noexcept {
    count_.live -= size;
    try {
      free_[size].push_back(p);
      count_.cached += size;
    } catch (...) {  // no room for the list entry: give the block back instead
      system_put(device_, p);
    }
  }
  void trim_locked() noexcept {
    for (auto& [size, blocks] : free_)
      for (void* p : blocks) system_put(device_, p);
    free_.clear();
    count_.cached = 0;
  }

  Device device_;
  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<void*>> free_;
  std::unordered_map<void*, PooledBlock> pooled_;
  const MemoryPool* pool_ = nullptr;
  MemoryCount count_;
};

CachingAllocator& allocator(Device device) {
  // Never destroyed: tensors with static lifetime may be released after main.
  static auto* cpu = new CachingAllocator(cpu_device);
  static auto* cuda = new CachingAllocator(cuda_device);
  return device.kind == Device::Kind::Cpu ? *cpu : *cuda;
}

struct ScratchArena {
  struct Block {
    char* data;
    size_t bytes;
  };
  std::vector<Block> blocks;
  size_t block = 0, used = 0;  // the next piece starts at blocks[block].data + used
  ~ScratchArena() {
    for (auto& b : blocks) release(cpu_device, b.data, b.bytes);
  }
};
thread_local ScratchArena arena;

}  // namespace

void* allocate(Device device, size_t bytes) { return allocator(device).get(bytes); }
void release(Device device, void* block, size_t bytes) noexcept {
  if (block) allocator(device).put(block, bytes);
}
void release_cached(Device device) noexcept { allocator(device).trim(); }
MemoryCount memory_count(Device device) { return allocator(device).count(); }
void reset_peak(Device device) { allocator(device).reset_peak(); }
void fail_allocation(uint64_t n) { failure_countdown.store(n); }

void copy_bytes(Device to, void* dst, Device from, const void* src, size_t bytes) {
  if (bytes == 0) return;
  if (to.kind == Device::Kind::Cpu && from.kind == Device::Kind::Cpu) std::memcpy(dst, src, bytes);
  else if (to == from) cuda::copy_async(dst, src, bytes, cuda::compute_stream());
  else cuda::copy(dst, src, bytes);
}
void zero_bytes(Device device, void* dst, size_t bytes) {
  if (bytes == 0) return;
  if (device.kind == Device::Kind::Cpu) std::memset(dst, 0, bytes);
  else cuda::zero_async(dst, bytes, cuda::compute_stream());
}

MemoryPool::~MemoryPool() { allocator(cuda_device).drop_pool(this); }
MemoryPool::Scope::Scope(MemoryPool& pool) { allocator(cuda_device).use_pool(&pool); }
MemoryPool::Scope::~Scope() { allocator(cuda_device).use_pool(nullptr); }

PinnedBuffer::PinnedBuffer(size_t bytes)
    : bytes_(bytes), data_(ordered_failure() ? nullptr : cuda::pinned_allocate(std::max<size_t>(bytes, 1))) {
  if (!data_)
    throw OutOfMemory(concat("out of page-locked memory: ", bytes, " bytes wanted"), __FILE__, __LINE__);
}
PinnedBuffer::~PinnedBuffer() { cuda::pinned_release(data_); }

Scratch::Scratch(size_t bytes) : mark_block_(arena.block), mark_used_(arena.used) {
  bytes = (bytes + 63) / 64 * 64;
  while (arena.block < arena.blocks.size() && arena.used + bytes > arena.blocks[arena.block].bytes) {
    ++arena.block;
    arena.used = 0;
  }
  if (arena.block == arena.blocks.size()) {
    const size_t size = std::max(bytes, size_t{1} << 20);
    arena.blocks.reserve(arena.blocks.size() + 1);
    try {
      arena.blocks.push_back({static_cast<char*>(allocate(cpu_device, size)), size});
    } catch (...) {
      arena.block = mark_block_, arena.used = mark_used_;
      throw;
    }
  }
  data_ = arena.blocks[arena.block].data + arena.used;
  arena.used += bytes;
}
Scratch::~Scratch() { arena.block = mark_block_, arena.used = mark_used_; }

}  // namespace qfm
