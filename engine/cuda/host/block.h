// Inside host-CUDA only: one block of CUDA threads, run as fibers on one OS thread.
#pragma once
#include <exception>
#include <string>
#include <vector>

#include "engine/base/error.h"
#include "engine/cuda/host/fiber.h"
#include "engine/cuda/host/language.h"
#include "engine/cuda/host/race/detector.h"
#include "engine/cuda/host/shared_memory.h"
#include "engine/cuda/kernel_name.h"

namespace qfm::host_cuda {

inline constexpr size_t kMaxStaticShared = 48 << 10,
                        kMaxShared = 227 << 10;  // bytes a block, compute capability 9.0

inline uint64_t next_random(uint64_t& state) {  // SplitMix64
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

inline std::string place(Where w) { return concat(w.file_name(), ":", w.line()); }

// A cp.async that its thread has not waited for.
struct AsyncCopy {
  char* shared;
  const char* global;
  bool valid;
  int group;  // commits of the thread before it
  Where where;
};

enum class State : uint8_t { Ready, Barrier, Collective, Done };

struct Thread {
  Fiber fiber;
  dim3 index;
  State state;
  Where where;  // of the barrier or collective it waits at
  // What it brought to the collective, and took from it.
  host_cuda::Collective what;
  uint32_t mask;
  int source;
  uint64_t value;
  WarpWork* work;

  std::vector<AsyncCopy> copies;  // oldest first
  int commits;
};

// The block of this number in a grid.
inline dim3 block_index(dim3 grid, int64_t i) {
  return dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y);
}

// The one block that runs on this OS thread.
class Block {
 public:
  // late_copies: a cp.async lands when it is waited for, else at once.
  void run(const Launch& launch, int64_t index, uint64_t seed, bool late_copies);
  void start_launch() { races_.start_launch(); }

  // For the thread that runs now.
  void barrier(Where where) { wait(State::Barrier, where); }
  uint64_t collective(host_cuda::Collective what, uint32_t mask, uint64_t value, int source, Where where);
  void whole_warp(WarpWork* work, void* mine, Where where);
  void cp_async16(void* shared, const void* global, bool valid, Where where);
  void cp_async_commit() { ++running_->commits; }
  void cp_async_wait(int newest);
  int thread() const { return static_cast<int>(running_ - threads_.data()); }
  int lane() const { return thread() & 31; }
  void* static_shared(const void* key, const char* name, size_t bytes, Where where);
  void* dynamic_shared() { return shared_.dynamic(); }
  // Throws Error unless [p, p + bytes) is shared memory of this block and aligned to `bytes`.
  void check_shared(const void* p, size_t bytes, const char* what, Where where) const;
  // A QFM_RACE build: the running thread accesses memory. A race, or an access around shared memory, ends the
  // thread and the launch.
  void access(const void* p, size_t bytes, bool write, Site site);
  // "host-CUDA: KERNEL, block (0,0,0): ", for messages.
  std::string here() const;

 private:
  static void fiber_main();
  void prepare();
  bool run_ready();
  bool run_warp(uint32_t warp);
  template <class Items>
  void shuffle(Items& items);
  static bool arrived(const Thread& t, const Thread& self);
  void complete(Thread* warp, uint32_t mask);
  void wait(State state, Where where);
  void check_copies_waited() const;
  void check_bands() const;
  std::string stuck() const;
  [[noreturn]] void stop(const std::string& message);
  std::string race_text(const void* p, bool write, Site site, const RaceDetector::Conflict& before) const;
  std::string thread_list(const std::vector<size_t>& ids) const;

  const Launch* launch_ = nullptr;  // null: no block runs
  dim3 index_;
  uint64_t random_ = 0;
  bool late_copies_ = false;
  std::vector<Thread> threads_;
  std::vector<uint32_t> warps_;    // in the order in which they run
  std::vector<uint32_t> waiting_;  // of each warp, the lanes that wait in a collective
  Thread* running_ = nullptr;
  Fiber scheduler_;
  FiberStacks stacks_;
  std::exception_ptr failure_;
  SharedMemory shared_;
  RaceDetector races_;
};

// The block running on this OS thread.
extern thread_local Block block;
// The same, while it runs; else null.
extern constinit thread_local Block* running_block;

}  // namespace qfm::host_cuda
