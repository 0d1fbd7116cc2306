#include "engine/cuda/host/language.h"

#include <atomic>

#include "engine/base/threads.h"
#include "engine/cuda/host/block.h"

namespace qfm::host_cuda {
namespace {

std::atomic<uint64_t> schedule_seed{1};
constinit Kernel* kernels = nullptr;

}  // namespace

void check_sizes(const Launch& l) {
  const auto name = [&] { return "host-CUDA: launch of " + cuda::kernel_name(l.kernel.signature) + ": "; };
  const auto within = [](dim3 d, unsigned x, unsigned y, unsigned z) {
    return d.x >= 1 && d.x <= x && d.y >= 1 && d.y <= y && d.z >= 1 && d.z <= z;
  };
  QFM_CHECK(within(l.grid, 0x7fffffffu, 65535, 65535), name(), "a grid of (", l.grid.x, ",", l.grid.y, ",",
            l.grid.z, ") blocks");
  QFM_CHECK(within(l.block, 1024, 1024, 64) && size_t{l.block.x} * l.block.y * l.block.z <= 1024, name(),
            "a block of (", l.block.x, ",", l.block.y, ",", l.block.z, ") threads");
  QFM_CHECK(l.shared_bytes <= kMaxShared, name(), l.shared_bytes, " bytes of shared memory, at most 227 KB");
}

Kernel::Kernel(const char* its_signature) : signature(its_signature), next(kernels) { kernels = this; }

std::map<std::string, int64_t> launches() {
  std::map<std::string, int64_t> counts;
  for (const Kernel* k = kernels; k; k = k->next) counts[cuda::kernel_name(k->signature)] += k->launches;
  return counts;
}

void set_seed(uint64_t seed) { schedule_seed.store(seed); }

void run(const Launch& launch) {
  check_sizes(launch);
  launch.kernel.launches.fetch_add(1, std::memory_order_relaxed);
  const uint64_t seed = schedule_seed.load();
  const dim3 grid = launch.grid;
  const int64_t blocks = int64_t{grid.x} * grid.y * grid.z;
  const auto run_block = [&](int64_t chunk) {
    const int64_t i = seed % 2 ? chunk : blocks - 1 - chunk;
    uint64_t mixed = seed ^ static_cast<uint64_t>(i) << 32;
    block.run(launch, i, next_random(mixed), seed % 2 == 0);
  };
  if (kFindRaces) {  // one detector sees them all
    block.start_launch();
    for (int64_t chunk = 0; chunk < blocks; ++chunk) run_block(chunk);
    return;
  }
  std::atomic<bool> failed = false;
  parallel_for(blocks, [&](int64_t chunk) {
    if (failed.load(std::memory_order_relaxed)) return;
    try {
      run_block(chunk);
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
void whole_warp(WarpWork* work, void* mine, Where where) { block.whole_warp(work, mine, where); }
void misaligned(const void* p, size_t bytes, Where where) {
  QFM_FAIL(block.here(), "thread ", block.thread(), ": an access of ", bytes,
           " bytes to the misaligned address ", p, ", at ", place(where));
}
void cp_async16(void* shared, const void* global, bool valid, Where where) {
  block.cp_async16(shared, global, valid, where);
}
void cp_async_commit() { block.cp_async_commit(); }
void cp_async_wait(int newest) { block.cp_async_wait(newest); }
void* dynamic_shared() { return block.dynamic_shared(); }

}  // namespace qfm::host_cuda
