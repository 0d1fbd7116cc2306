#include "engine/base/host_cuda.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "engine/base/cuda.h"
#include "engine/base/error.h"
#include "engine/base/fiber.h"
#include "engine/base/kernel_name.h"
#include "engine/base/threads.h"

namespace qfm::cuda {

bool available() noexcept { return true; }
const char* unavailable_reason() noexcept { return ""; }
// A fresh block is NaN in every float format.
void* system_allocate(size_t bytes) noexcept {
  void* p = nullptr;
  if (posix_memalign(&p, 256, bytes) != 0) return nullptr;
  return std::memset(p, 0xff, bytes);
}
void system_release(void* p) noexcept { std::free(p); }
void copy(void* dst, const void* src, size_t bytes) { std::memcpy(dst, src, bytes); }
void zero(void* dst, size_t bytes) { std::memset(dst, 0, bytes); }
void synchronize() {}

}  // namespace qfm::cuda

namespace qfm::host_cuda {
namespace {

constexpr size_t kMaxStaticShared = 48 << 10,
                 kMaxShared = 227 << 10;  // bytes a block, compute capability 9.0

std::atomic<uint64_t> schedule_seed{1};

uint64_t next_random(uint64_t& state) {  // SplitMix64
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

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
};

struct SharedPiece {
  const void* key;
  size_t bytes;
  std::unique_ptr<char, decltype(&std::free)> data;
};

std::string place(Where w) { return concat(w.file_name(), ":", w.line()); }
bool same_place(Where a, Where b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

// The one block that runs on this OS thread.
class Block {
 public:
  void run(const Launch& launch, dim3 index, uint64_t seed);
  void barrier(Where where) { wait(State::Barrier, where); }
  uint64_t collective(host_cuda::Collective what, uint32_t mask, uint64_t value, int source, Where where);
  int lane() const { return static_cast<int>(running_ - threads_.data()) & 31; }
  void* static_shared(const void* key, const char* name, size_t bytes, Where where);
  void* dynamic_shared() { return dynamic_.data.get(); }

 private:
  static void fiber_main();
  void prepare();
  bool run_ready();
  bool run_warp(uint32_t warp);
  template <class Items>
  void shuffle(Items& items);
  void complete(uint32_t mask);
  void wait(State state, Where where);
  std::string stuck() const;
  Thread* lane_thread(const Thread& of, int lane);
  std::string thread_list(const std::vector<size_t>& ids) const;
  std::string here() const {
    return concat("host-CUDA: ", cuda::kernel_name(launch_->signature), ", block (", index_.x, ",", index_.y,
                  ",", index_.z, "): ");
  }

  const Launch* launch_ = nullptr;  // null: no block runs
  dim3 index_;
  uint64_t random_ = 0;
  std::vector<Thread> threads_;
  std::vector<uint32_t> warps_;
  Thread* running_ = nullptr;
  Fiber scheduler_;
  FiberStacks stacks_;
  std::exception_ptr failure_;
  std::vector<SharedPiece> static_;
  SharedPiece dynamic_{nullptr, 0, {nullptr, &std::free}};
};

thread_local Block block;

// Pieces are heap blocks of their exact size, so that ASan sees an index past the end.
SharedPiece shared_piece(const void* key, size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 128, std::max<size_t>(bytes, 1)) != 0)
    throw OutOfMemory("host-CUDA: no memory for shared memory", __FILE__, __LINE__);
  return {key, bytes, {static_cast<char*>(std::memset(p, 0xff, bytes)), &std::free}};
}

void Block::run(const Launch& launch, dim3 index, uint64_t seed) {
  QFM_CHECK(!launch_, "host-CUDA: ", cuda::kernel_name(launch.signature), " is launched by a kernel");
  launch_ = &launch, index_ = index, random_ = seed;
  struct AtEnd {
    Block& b;
    ~AtEnd() {
      b.launch_ = nullptr;
      b.static_.clear();
    }
  } at_end{*this};
  prepare();
  while (true) {
    if (run_ready()) continue;
    if (failure_) break;
    const auto all = [&](State s) {
      return std::all_of(threads_.begin(), threads_.end(), [&](const Thread& t) {
        return t.state == s && (s == State::Done || same_place(t.where, threads_[0].where));
      });
    };
    if (all(State::Done)) return;
    if (!all(State::Barrier)) break;
    for (Thread& t : threads_) t.state = State::Ready;
  }
  stacks_.forget();  // the other fibers are dropped where they stand
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  QFM_FAIL(here(), stuck());
}

void Block::prepare() {
  const dim3 size = launch_->block;
  const size_t n = size_t{size.x} * size.y * size.z;
  stacks_.reserve(n);
  dynamic_ = shared_piece(nullptr, launch_->shared_bytes);
  threads_.resize(n);
  warps_.resize((n + 31) / 32);
  std::iota(warps_.begin(), warps_.end(), 0u);
  for (size_t i = 0; i < n; ++i) {
    Thread& t = threads_[i];
    t.fiber = Fiber::start(stacks_.bottom(i), &fiber_main);
    t.index = dim3(i % size.x, i / size.x % size.y, i / size.x / size.y);
    t.state = State::Ready;
  }
  blockIdx = index_, blockDim = size, gridDim = launch_->grid;
}

// Lets threads run, in a new order. A warp may get far ahead of the others, to its next barrier, or go on
// with them from collective to collective. False when no thread could run, or one failed.
bool Block::run_ready() {
  shuffle(warps_);
  bool any = false;
  for (const uint32_t warp : warps_) {
    const bool ahead = next_random(random_) & 1;
    while (run_warp(warp)) {
      any = true;
      if (!ahead) break;
    }
    if (failure_) return false;
  }
  return any;
}

bool Block::run_warp(uint32_t warp) {
  std::array<uint32_t, 32> lanes;
  std::iota(lanes.begin(), lanes.end(), 32 * warp);
  shuffle(lanes);
  bool any = false;
  for (const uint32_t i : lanes) {
    if (i >= threads_.size() || threads_[i].state != State::Ready) continue;
    any = true;
    running_ = &threads_[i];
    threadIdx = running_->index;
    switch_fiber(scheduler_, running_->fiber);
    if (failure_) return false;
  }
  return any;
}

template <class Items>
void Block::shuffle(Items& items) {
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[next_random(random_) % i]);
}

void Block::fiber_main() {
  Fiber::entered(block.scheduler_);
  try {
    block.launch_->call(block.launch_->arguments);
  } catch (...) {
    block.failure_ = std::current_exception();
  }
  block.running_->state = State::Done;
  switch_fiber(block.running_->fiber, block.scheduler_, true);
}

void Block::wait(State state, Where where) {
  running_->state = state, running_->where = where;
  switch_fiber(running_->fiber, scheduler_);
}

// The thread that is `lane` in the same warp; null past the end of the block.
Thread* Block::lane_thread(const Thread& of, int lane) {
  const size_t i = ((&of - threads_.data()) & ~size_t{31}) + lane;
  return i < threads_.size() ? &threads_[i] : nullptr;
}

uint64_t Block::collective(host_cuda::Collective what, uint32_t mask, uint64_t value, int source,
                           Where where) {
  Thread& self = *running_;
  QFM_CHECK(mask >> lane() & 1, here(), "lane ", lane(), " calls a warp collective whose mask lacks it, at ",
            place(where));
  self.what = what, self.mask = mask, self.value = value, self.source = source, self.where = where;
  self.state = State::Collective;
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const Thread* t = lane_thread(self, __builtin_ctz(rest));
    if (!t || t->state != State::Collective || t->mask != mask || t->what != what) {
      wait(State::Collective, where);
      return self.value;
    }
  }
  complete(mask);
  return self.value;
}

// The last arriver works for all.
void Block::complete(uint32_t mask) {
  Thread& self = *running_;
  uint64_t before[32] = {};
  uint64_t ballot = 0;
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    before[lane] = lane_thread(self, lane)->value;
    ballot |= uint64_t{before[lane] != 0} << lane;
  }
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    Thread& t = *lane_thread(self, __builtin_ctz(rest));
    QFM_CHECK(t.what != host_cuda::Collective::Shuffle || mask >> t.source & 1, here(), "lane ",
              __builtin_ctz(rest), " shuffles from lane ", t.source, ", which the mask lacks, at ",
              place(t.where));
    t.value = t.what == host_cuda::Collective::Shuffle  ? before[t.source]
              : t.what == host_cuda::Collective::Ballot ? ballot
                                                        : 0;
    t.state = State::Ready;
  }
}

void* Block::static_shared(const void* key, const char* name, size_t bytes, Where where) {
  size_t total = bytes;
  for (const SharedPiece& piece : static_) {
    if (piece.key == key) return piece.data.get();
    total += piece.bytes;
  }
  QFM_CHECK(total <= kMaxStaticShared, here(), "static shared memory is ", total, " bytes with ", name,
            ", at most 48 KB: use DYN_SHARED, at ", place(where));
  QFM_CHECK(total + launch_->shared_bytes <= kMaxShared, here(), "shared memory is ",
            total + launch_->shared_bytes, " bytes with ", name, ", at most 227 KB, at ", place(where));
  static_.push_back(shared_piece(key, bytes));
  return static_.back().data.get();
}

std::string Block::thread_list(const std::vector<size_t>& ids) const {
  std::string text = ids.size() == 1 ? "thread " : "threads ";
  for (size_t i = 0, end; i < ids.size(); i = end) {
    for (end = i + 1; end < ids.size() && ids[end] == ids[end - 1] + 1;) ++end;
    text += concat(i ? "," : "", ids[i]);
    if (end - i > 1) text += concat("-", ids[end - 1]);
  }
  return text;
}

// Nobody can go on: says who waits where. An exited lane in a collective explains most, then a barrier.
std::string Block::stuck() const {
  struct Group {
    const Thread* first;
    std::vector<size_t> ids;
  };
  std::vector<Group> groups;
  bool barrier = false, exited_lane = false;
  for (size_t i = 0; i < threads_.size(); ++i) {
    const Thread& t = threads_[i];
    barrier |= t.state == State::Barrier;
    for (size_t j = 0; t.state == State::Collective && j < 32; ++j) {
      const size_t other = (i & ~size_t{31}) + j;
      exited_lane |= (t.mask >> j & 1) && (other >= threads_.size() || threads_[other].state == State::Done);
    }
    const auto same = [&](const Group& g) {
      return g.first->state == t.state && (t.state == State::Done || same_place(g.first->where, t.where));
    };
    auto group = std::find_if(groups.begin(), groups.end(), same);
    if (group == groups.end()) group = groups.insert(group, Group{&t, {}});
    group->ids.push_back(i);
  }
  std::string text = exited_lane ? "a lane has exited in a warp collective"
                     : barrier   ? "divergent barrier"
                                 : "a warp collective that not all its lanes reach";
  for (const Group& g : groups) {
    text += concat(&g == &groups[0] ? ": " : "; ", thread_list(g.ids));
    text += g.first->state == State::Done      ? " exited"
            : g.first->state == State::Barrier ? " at the barrier of " + place(g.first->where)
                                               : " at the collective of " + place(g.first->where);
  }
  return text;
}

void check_sizes(const Launch& l) {
  const auto name = [&] { return "host-CUDA: launch of " + cuda::kernel_name(l.signature) + ": "; };
  const auto within = [](dim3 d, unsigned x, unsigned y, unsigned z) {
    return d.x >= 1 && d.x <= x && d.y >= 1 && d.y <= y && d.z >= 1 && d.z <= z;
  };
  QFM_CHECK(within(l.grid, 0x7fffffffu, 65535, 65535), name(), "a grid of (", l.grid.x, ",", l.grid.y, ",",
            l.grid.z, ") blocks");
  QFM_CHECK(within(l.block, 1024, 1024, 64) && size_t{l.block.x} * l.block.y * l.block.z <= 1024, name(),
            "a block of (", l.block.x, ",", l.block.y, ",", l.block.z, ") threads");
  QFM_CHECK(l.shared_bytes <= kMaxShared, name(), l.shared_bytes, " bytes of shared memory, at most 227 KB");
}

}  // namespace

void set_seed(uint64_t seed) { schedule_seed.store(seed); }

void run(const Launch& launch) {
  check_sizes(launch);
  const uint64_t seed = schedule_seed.load();
  const dim3 grid = launch.grid;
  const int64_t blocks = int64_t{grid.x} * grid.y * grid.z;
  std::atomic<bool> failed = false;
  parallel_for(blocks, [&](int64_t chunk) {
    if (failed.load(std::memory_order_relaxed)) return;
    const int64_t i = seed % 2 ? chunk : blocks - 1 - chunk;
    uint64_t mixed = seed ^ static_cast<uint64_t>(i) << 32;
    try {
      block.run(launch, dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y), next_random(mixed));
    } catch (...) {
      failed.store(true, std::memory_order_relaxed);
      throw;
    }
  });
}

void barrier(Where where) { block.barrier(where); }
uint64_t collective(Collective what, uint32_t mask, uint64_t value, int source, Where where) {
  return block.collective(what, mask, value, source, where);
}
int lane() { return block.lane(); }
void* static_shared(const void* key, const char* name, size_t bytes, Where where) {
  return block.static_shared(key, name, bytes, where);
}
void* dynamic_shared() { return block.dynamic_shared(); }

}  // namespace qfm::host_cuda
