#include "engine/cuda/host/block.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>

namespace qfm::host_cuda {

thread_local Block block;
constinit thread_local Block* running_block = nullptr;

namespace {

bool same_place(Where a, Where b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

}  // namespace

std::string Block::here() const {
  return concat("host-CUDA: ", cuda::kernel_name(launch_->kernel.signature), ", block (", index_.x, ",",
                index_.y, ",", index_.z, "): ");
}

void Block::run(const Launch& launch, int64_t index, uint64_t seed, bool late_copies) {
  QFM_CHECK(!launch_, "host-CUDA: ", cuda::kernel_name(launch.kernel.signature), " is launched by a kernel");
  launch_ = &launch, index_ = block_index(launch.grid, index), random_ = seed, late_copies_ = late_copies;
  struct AtEnd {
    Block& b;
    ~AtEnd() {
      b.launch_ = nullptr, running_block = nullptr;
      for (const SharedPiece& piece : b.shared_.pieces())
        if (kFindRaces) b.races_.forget(piece.data(), piece.bytes);
      b.shared_.clear();
    }
  } at_end{*this};
  prepare();
  if (kFindRaces) races_.start_block(static_cast<uint32_t>(index), threads_.size()), running_block = this;
  while (true) {
    if (run_ready()) continue;
    if (failure_) break;
    const auto all = [&](State s) {
      return std::all_of(threads_.begin(), threads_.end(), [&](const Thread& t) {
        return t.state == s && (s == State::Done || same_place(t.where, threads_[0].where));
      });
    };
    if (all(State::Done)) return check_bands();
    if (!all(State::Barrier)) break;
    for (Thread& t : threads_) t.state = State::Ready;
    if (kFindRaces) races_.barrier();
  }
  stacks_.forget();  // the other fibers are dropped where they stand
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  QFM_FAIL(here(), stuck());
}

void Block::prepare() {
  const dim3 size = launch_->block;
  const size_t n = size_t{size.x} * size.y * size.z;
  stacks_.reserve(n);
  shared_.start(launch_->shared_bytes);
  threads_.resize(n);
  warps_.resize((n + 31) / 32);
  std::iota(warps_.begin(), warps_.end(), 0u);
  waiting_.assign(warps_.size(), 0);
  for (size_t i = 0; i < n; ++i) {
    Thread& t = threads_[i];
    t.fiber = Fiber::start(stacks_.bottom(i), stacks_.size(i), &fiber_main);
    t.index = dim3(i % size.x, i / size.x % size.y, i / size.x / size.y);
    t.state = State::Ready;
    t.copies.clear();
    t.commits = 0;
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
  for (size_t i = items.size(); i > 1; --i)
    std::swap(items[i - 1], items[(next_random(random_) >> 32) * i >> 32]);
}

void Block::fiber_main() {
  Fiber::entered(block.scheduler_);
  try {
    block.launch_->call(block.launch_->arguments);
    block.check_copies_waited();
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

// Whether t, which waits in a collective, waits in the one that `self` has come to.
bool Block::arrived(const Thread& t, const Thread& self) {
  return t.mask == self.mask && t.what == self.what &&
         (self.what != host_cuda::Collective::Work || same_place(t.where, self.where));
}

uint64_t Block::collective(host_cuda::Collective what, uint32_t mask, uint64_t value, int source,
                           Where where) {
  Thread& self = *running_;
  QFM_CHECK(mask >> lane() & 1, here(), "lane ", lane(), " calls a warp collective whose mask lacks it, at ",
            place(where));
  self.what = what, self.mask = mask, self.value = value, self.source = source, self.where = where;
  self.state = State::Collective;
  uint32_t& waiting = waiting_[thread() / 32];
  waiting |= 1u << lane();
  Thread* warp = &self - lane();
  bool last = (waiting & mask) == mask;
  for (uint32_t rest = last ? mask : 0; rest != 0; rest &= rest - 1)
    last &= arrived(warp[std::countr_zero(rest)], self);
  if (last) {
    complete(warp, mask);
    waiting &= ~mask;
  } else {
    wait(State::Collective, where);
  }
  return self.value;
}

void Block::whole_warp(WarpWork* work, void* mine, Where where) {
  running_->work = work;
  collective(host_cuda::Collective::Work, 0xffffffffu, reinterpret_cast<uint64_t>(mine), 0, where);
}

// The last arriver works for all.
void Block::complete(Thread* warp, uint32_t mask) {
  const host_cuda::Collective what = running_->what;
  uint64_t before[32] = {};
  uint64_t ballot = 0;
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    before[lane] = warp[lane].value;
    ballot |= uint64_t{before[lane] != 0} << lane;
  }
  if (what == host_cuda::Collective::Work) {
    void* lanes[32];
    for (int i = 0; i < 32; ++i) lanes[i] = reinterpret_cast<void*>(before[i]);
    running_->work(lanes);
  }
  if (kFindRaces && what == host_cuda::Collective::Sync)
    races_.sync_warp(static_cast<int>(warp - threads_.data()), mask);
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    Thread& t = warp[std::countr_zero(rest)];
    QFM_CHECK(what != host_cuda::Collective::Shuffle || mask >> t.source & 1, here(), "lane ",
              std::countr_zero(rest), " shuffles from lane ", t.source, ", which the mask lacks, at ",
              place(t.where));
    t.value = what == host_cuda::Collective::Shuffle ? before[t.source] : ballot;
    t.state = State::Ready;
  }
}

void Block::check_shared(const void* p, size_t bytes, const char* what, Where where) const {
  QFM_CHECK(shared_.holds(p, bytes), here(), "thread ", thread(), ": ", what,
            " an address outside the shared memory of the block, at ", place(where));
  QFM_CHECK(reinterpret_cast<uintptr_t>(p) % bytes == 0, here(), "thread ", thread(), ": ", what,
            " an address that is not a multiple of ", bytes, " bytes, at ", place(where));
}

void Block::check_bands() const {
  for (const SharedPiece& piece : shared_.pieces())
    QFM_CHECK(!piece.damaged(), here(), "shared memory around ", piece.name, " has been written",
              piece.key ? ", declared at " + place(piece.where) : "");
}

namespace {

void land(const AsyncCopy& copy) {
  if (copy.valid) std::memcpy(copy.shared, copy.global, 16);
  else std::memset(copy.shared, 0, 16);
}

}  // namespace

void Block::cp_async16(void* shared, const void* global, bool valid, Where where) {
  check_shared(shared, 16, "cp_async16 to", where);
  QFM_CHECK(reinterpret_cast<uintptr_t>(global) % 16 == 0, here(), "thread ", thread(),
            ": cp_async16 from an address that is not a multiple of 16 bytes, at ", place(where));
  const AsyncCopy copy{static_cast<char*>(shared), static_cast<const char*>(global), valid, running_->commits,
                       where};
  if (kFindRaces) {
    if (valid) access(global, 16, false, site_of(where));
    access(shared, 16, true, site_of(where));
    races_.take_off(shared, 16);
  }
  if (late_copies_) std::memset(shared, 0xff, 16);  // not to be read until it has landed
  else land(copy);
  running_->copies.push_back(copy);
}

void Block::cp_async_wait(int newest) {
  std::vector<AsyncCopy>& copies = running_->copies;
  const auto flying = std::find_if(copies.begin(), copies.end(),
                                   [&](const AsyncCopy& c) { return c.group >= running_->commits - newest; });
  if (late_copies_) std::for_each(copies.begin(), flying, land);
  for (auto copy = copies.begin(); kFindRaces && copy != flying; ++copy)
    races_.land(thread(), copy->shared, 16);
  copies.erase(copies.begin(), flying);
}

void Block::check_copies_waited() const {
  if (running_->copies.empty()) return;
  const AsyncCopy& copy = running_->copies.front();
  QFM_FAIL(here(), "thread ", thread(), " ends before it has waited for its cp_async16 of ",
           place(copy.where), copy.group == running_->commits ? ", which it has not committed either" : "");
}

void* Block::static_shared(const void* key, const char* name, size_t bytes, Where where) {
  if (void* p = shared_.find(key)) return p;
  const size_t total = shared_.static_bytes() + bytes;
  QFM_CHECK(total <= kMaxStaticShared, here(), "static shared memory is ", total, " bytes with ", name,
            ", at most 48 KB: use DYN_SHARED, at ", place(where));
  QFM_CHECK(total + launch_->shared_bytes <= kMaxShared, here(), "shared memory is ",
            total + launch_->shared_bytes, " bytes with ", name, ", at most 227 KB, at ", place(where));
  return shared_.add(key, name, bytes, where);
}

// Not by a throw: the compiler takes the hooks for functions that throw nothing.
void Block::stop(const std::string& message) {
  failure_ = std::make_exception_ptr(Error(message, __FILE__, __LINE__));
  switch_fiber(running_->fiber, scheduler_, true);
  std::abort();  // never comes back
}

void Block::access(const void* p, size_t bytes, bool write, Site site) {
  if (stacks_.holds(p)) return;
  for (const SharedPiece& piece : shared_.pieces())
    if (piece.band_holds(p, bytes))
      stop(concat(here(), "thread ", thread(), write ? " writes " : " reads ", "past the bounds of ",
                  piece.name, " at ", text_of(site)));
  if (const auto before = races_.access(thread(), p, bytes, write, site))
    stop(here() + race_text(p, write, site, *before));
}

std::string Block::race_text(const void* p, bool write, Site site,
                             const RaceDetector::Conflict& before) const {
  std::string memory = concat("global memory ", p);
  for (const SharedPiece& piece : shared_.pieces())
    if (piece.holds(p, 1))
      memory =
          concat("shared memory ", piece.name, " + ", static_cast<const char*>(p) - piece.data(), " bytes");
  const dim3 other = block_index(launch_->grid, before.block);
  const bool elsewhere = other.x != index_.x || other.y != index_.y || other.z != index_.z;
  return concat("race on ", memory, ": thread ", thread(), write ? " writes at " : " reads at ",
                text_of(site), ", thread ", before.thread,
                elsewhere ? concat(" of block (", other.x, ",", other.y, ",", other.z, ")") : std::string(),
                before.in_flight ? " has not waited for its cp_async16 of "
                : before.wrote   ? " wrote at "
                                 : " read at ",
                text_of(before.site));
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

// No thread can go on: names the waiting ones and where they wait. An exited lane in a collective explains most, then a barrier.
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

}  // namespace qfm::host_cuda
