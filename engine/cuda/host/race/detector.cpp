#include "engine/cuda/host/race/detector.h"

#include <algorithm>
#include <bit>

#include "engine/base/error.h"

namespace qfm::host_cuda {

void RaceDetector::start_launch() {
  constexpr size_t kKept = 1 << 14;  // pages, of whatever launch
  ++launch_;
  if (pages_.size() < kKept) return;
  pages_.clear();
  recent_ = {};
}

void RaceDetector::start_block(uint32_t block, size_t threads) {
  block_ = block;
  time_ = barrier_time_ = 1;
  clocks_.assign(threads, 1);
  seen_.assign(threads, {});
}

void RaceDetector::barrier() {
  barrier_time_ = ++time_;
  clocks_.assign(clocks_.size(), time_);
}

// Each lane has now seen what any of them had, and what they did before this tick.
void RaceDetector::sync_warp(int first_thread, uint32_t mask) {
  ++time_;
  QFM_CHECK(time_ < 1u << 21,
            "host-CUDA: the race detector counts at most 2 million barriers and __syncwarp");
  std::array<uint32_t, 32> joint = {};
  const auto for_lanes = [&](auto&& f) {
    for (uint32_t rest = mask; rest != 0; rest &= rest - 1) f(std::countr_zero(rest));
  };
  for_lanes([&](int lane) {
    const auto& seen = seen_[first_thread + lane];
    for (int i = 0; i < 32; ++i) joint[i] = std::max(joint[i], seen[i]);
  });
  for_lanes([&](int lane) { joint[lane] = time_; });
  for_lanes([&](int lane) { seen_[first_thread + lane] = joint, clocks_[first_thread + lane] = time_; });
}

bool RaceDetector::ordered(const Record& before, int thread) const {
  if (before.clock == 0) return true;
  if (before.block != block_ || before.in_flight) return false;
  const int other = static_cast<int>(before.thread);
  if (other == thread || before.clock < barrier_time_) return true;
  return other / 32 == thread / 32 && before.clock < seen_[thread][other % 32];
}

RaceDetector::Page& RaceDetector::page_of(uintptr_t address) {
  const uintptr_t key = address >> kPageBits;
  auto& [recent_key, page] = recent_[key % recent_.size()];
  if (recent_key != key || !page) {
    std::unique_ptr<Page>& kept = pages_[key];
    if (!kept) kept = std::make_unique<Page>();
    recent_key = key, page = kept.get();
  }
  if (page->launch != launch_) {
    page->launch = launch_, page->unit = 4;
    page->cells.assign(size_t{1} << (kPageBits - 4), {});
  }
  return *page;
}

void RaceDetector::refine(Page& page, int unit) {
  const size_t copies = size_t{1} << (page.unit - unit);
  std::vector<Cell> finer(page.cells.size() * copies);
  for (size_t i = 0; i < finer.size(); ++i) finer[i] = page.cells[i / copies];
  page.cells = std::move(finer), page.unit = unit;
}

// f(cell) for all cells of [p, p + bytes), until one call returns true.
template <class F>
void RaceDetector::for_cells(const void* p, size_t bytes, F&& f) {
  uintptr_t address = reinterpret_cast<uintptr_t>(p);
  const uintptr_t end = address + bytes;
  while (address < end) {
    Page& page = page_of(address);
    const uintptr_t page_end = ((address >> kPageBits) + 1) << kPageBits, stop = std::min(end, page_end);
    const int unit = std::countr_zero(address | stop | 16);
    if (unit < page.unit) refine(page, unit);
    const uintptr_t offset = address & ((1 << kPageBits) - 1);
    for (uintptr_t i = offset >> page.unit; i < (offset + (stop - address)) >> page.unit; ++i)
      if (f(page.cells[i])) return;
    address = stop;
  }
}

void RaceDetector::keep_read(Cell& cell, const Record& now) const {
  Record &a = cell.reads[0], &b = cell.reads[1];
  const int thread = static_cast<int>(now.thread);
  if (ordered(a, thread)) a = now;
  else if (ordered(b, thread)) b = now;
  else if (a.block == b.block &&
           (now.block != a.block || (a.thread / 32 == b.thread / 32 && now.thread / 32 != a.thread / 32)))
    b = now;
}

std::optional<RaceDetector::Conflict> RaceDetector::note(Cell& cell, const Record& now, bool write) {
  const int thread = static_cast<int>(now.thread);
  const auto conflict = [](const Record& r, bool wrote) {
    return Conflict{r.block, static_cast<int>(r.thread), wrote, r.in_flight != 0, r.site};
  };
  if (!ordered(cell.write, thread)) return conflict(cell.write, true);
  if (!write) {
    keep_read(cell, now);
    return {};
  }
  for (const Record& read : cell.reads)
    if (!ordered(read, thread)) return conflict(read, false);
  cell = Cell{now, {}};
  return {};
}

std::optional<RaceDetector::Conflict> RaceDetector::access(int thread, const void* p, size_t bytes,
                                                           bool write, Site site) {
  Record now;
  now.block = block_, now.thread = static_cast<uint32_t>(thread) & 1023,
  now.clock = clocks_[thread] & 0x1fffff;
  now.site = site;
  std::optional<Conflict> found;
  for_cells(p, bytes, [&](Cell& cell) { return (found = note(cell, now, write)).has_value(); });
  return found;
}

void RaceDetector::take_off(const void* p, size_t bytes) {
  for_cells(p, bytes, [](Cell& cell) {
    cell.write.in_flight = 1;
    return false;
  });
}

void RaceDetector::land(int thread, const void* p, size_t bytes) {
  for_cells(p, bytes, [&](Cell& cell) {
    cell.write.in_flight = 0, cell.write.clock = clocks_[thread] & 0x1fffff;
    return false;
  });
}

void RaceDetector::forget(const void* p, size_t bytes) {
  for_cells(p, bytes, [](Cell& cell) {
    cell = {};
    return false;
  });
}

}  // namespace qfm::host_cuda
