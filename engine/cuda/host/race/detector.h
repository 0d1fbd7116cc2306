// Inside host-CUDA only: finds races. A build with QFM_RACE=ON reports every access of a kernel to shared and
// global memory to a RaceDetector, which knows what CUDA orders:
//   - the accesses of one thread, and all accesses before a block barrier with all after it;
//   - accesses before a __syncwarp with those after it, for the lanes of its mask. Votes, shuffles and matrix
//     instructions do not order memory;
//   - nothing between blocks of one launch.
// Two accesses that nothing orders race when one of them writes, whatever the order in which they ran here.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/cuda/host/language.h"

namespace qfm::host_cuda {

#ifdef QFM_CUDA_RACE
inline constexpr bool kFindRaces = true;
#else
inline constexpr bool kFindRaces = false;
#endif

// Where in the source an access is made: an address of the program, or a line known beforehand.
using Site = uint32_t;
Site site_of(const void* return_address);
Site site_of(Where where);
// "kernels/x.cu:12", by addr2line; without it the address in the program.
std::string text_of(Site site);

class RaceDetector {
 public:
  struct Conflict {
    uint32_t block;
    int thread;
    bool wrote, in_flight;
    Site site;
  };

  // Everything before a launch is ordered before it.
  void start_launch();
  void start_block(uint32_t block, size_t threads);
  void barrier();
  void sync_warp(int first_thread, uint32_t mask);

  // Notes the access; an earlier one that races with it, if any.
  std::optional<Conflict> access(int thread, const void* p, size_t bytes, bool write, Site site);
  // The write just noted is an asynchronous copy: until it lands, every access races with it.
  void take_off(const void* p, size_t bytes);
  void land(int thread, const void* p, size_t bytes);
  // The memory has come to its end; its address may come back as something else.
  void forget(const void* p, size_t bytes);

 private:
  struct Record {
    uint32_t block = 0;
    uint32_t thread : 10 = 0;
    uint32_t in_flight : 1 = 0;
    uint32_t clock : 21 = 0;  // 0: none
    Site site = 0;
  };
  // A write is ordered after all accesses before it, or a race was found: the last one is enough. Two of the
  // reads after it are kept, by different blocks or warps if there are such: a later write races with one of
  // them if it races with any.
  struct Cell {
    Record write, reads[2];
  };
  // Cells of 1 << unit bytes, as fine as the accesses so far have needed.
  struct Page {
    uint64_t launch = 0;
    int unit = 4;
    std::vector<Cell> cells;
  };
  static constexpr int kPageBits = 10;

  Page& page_of(uintptr_t address);
  static void refine(Page& page, int unit);
  template <class F>
  void for_cells(const void* p, size_t bytes, F&& f);
  bool ordered(const Record& before, int thread) const;
  std::optional<Conflict> note(Cell& cell, const Record& now, bool write);
  void keep_read(Cell& cell, const Record& now) const;

  uint64_t launch_ = 0;
  uint32_t block_ = 0;
  // Every barrier and __syncwarp of the block is a tick. Each thread has its last one, and the tick up to which
  // it has seen what the lanes of its warp did.
  uint32_t time_ = 0, barrier_time_ = 0;
  std::vector<uint32_t> clocks_;
  std::vector<std::array<uint32_t, 32>> seen_;
  std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages_;
  std::array<std::pair<uintptr_t, Page*>, 256> recent_ = {};
};

}  // namespace qfm::host_cuda
