// The layer that runs CUDA kernels on the CPU: what it computes, and what it catches.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/threads.h"
#include "engine/cuda/launch.h"
#include "engine/cuda/warp_ops.h"
#include "tests/support.h"

namespace qfm {
namespace {

using test::contains;
using test::message_of;

constexpr uint64_t kSeeds = 8;
constexpr unsigned kAll = 0xffffffffu;
using Pack4 = Pack<float, 4>;

// f(seed) for the orders that the tests try.
template <class F>
void for_seeds(F&& f) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    host_cuda::set_seed(seed);
    f(seed);
  }
  host_cuda::set_seed(1);
}

__global__ void indices_kernel(int* out) {
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * 24 + thread] += 1000 * block + thread;
}

TEST_CASE("host-CUDA: every thread of every block runs once, with its indices") {
  for (const int n : {1, 2}) {
    set_threads(n);
    std::vector<int> out(30 * 24, 0);
    launch<indices_kernel>(dim3(5, 3, 2), dim3(2, 3, 4), 0, nullptr, out.data());
    for (int i = 0; i < 30 * 24; ++i) REQUIRE(out[i] == 1000 * (i / 24) + i % 24);
  }
  set_threads(0);
}

__global__ void order_kernel(int* order, int* next) { order[(*next)++] = threadIdx.x; }

TEST_CASE("host-CUDA: the seed decides the order of threads") {
  std::set<std::vector<int>> orders;
  const auto order_of = [](uint64_t seed) {
    std::vector<int> order(64, -1);
    int next = 0;
    host_cuda::set_seed(seed);
    launch<order_kernel>(1, 64, 0, nullptr, order.data(), &next);
    host_cuda::set_seed(1);
    return order;
  };
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    std::vector<int> order = order_of(seed);
    CHECK(order == order_of(seed));
    orders.insert(order);
    std::sort(order.begin(), order.end());
    for (int i = 0; i < 64; ++i) REQUIRE(order[i] == i);
  }
  CHECK(orders.size() == kSeeds);
}

// Thread t leaves its index, then takes what thread t + step left, some rounds long.
__global__ void rotate_kernel(int* out, int rounds) {
  SHARED(int, seat, [96]);
  int mine = threadIdx.x;
  for (int round = 0; round < rounds; ++round) {
    seat[threadIdx.x] = mine;
    __syncthreads();
    mine = seat[(threadIdx.x + 1) % blockDim.x];
    __syncthreads();
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = mine;
}

TEST_CASE("host-CUDA: barriers order what threads write and read") {
  for_seeds([](uint64_t) {
    std::vector<int> out(4 * 96, -1);
    launch<rotate_kernel>(4, 96, 0, nullptr, out.data(), 5);
    for (int i = 0; i < 4 * 96; ++i) REQUIRE(out[i] == (i % 96 + 5) % 96);
  });
}

template <class T>
__global__ void shuffles_kernel(T* out, unsigned* votes) {
  const int lane = threadIdx.x % 32;
  const T v = static_cast<T>(threadIdx.x) + T(0.5);
  T* o = out + threadIdx.x * 8;
  o[0] = __shfl_sync(kAll, v, 7);
  o[1] = __shfl_sync(kAll, v, lane + 3, 8);
  o[2] = __shfl_xor_sync(kAll, v, 5);
  o[3] = __shfl_down_sync(kAll, v, 6, 16);
  o[4] = __shfl_up_sync(kAll, v, 3);
  if (lane < 16)  // two halves, each alone
    o[5] = __shfl_xor_sync(0x0000ffffu, v, 1);
  else o[5] = __shfl_xor_sync(0xffff0000u, v, 2);
  o[6] = __any_sync(kAll, threadIdx.x == 40) ? 1 : 0;
  o[7] = __all_sync(kAll, threadIdx.x >= 32) ? 1 : 0;
  __syncwarp();
  votes[threadIdx.x] = __ballot_sync(kAll, threadIdx.x % 3 == 0);
}

TEST_CASE_TEMPLATE("host-CUDA: warp collectives give what CUDA's manual says", T, float, double) {
  for_seeds([](uint64_t) {
    std::vector<T> out(64 * 8);
    std::vector<unsigned> votes(64);
    launch<shuffles_kernel<T>>(1, 64, 0, nullptr, out.data(), votes.data());
    for (int t = 0; t < 64; ++t) {
      const int lane = t % 32, base = t - lane;
      const int from[6] = {7,
                           (lane & 24) | ((lane + 3) & 7),
                           lane ^ 5,
                           (lane & 15) + 6 < 16 ? lane + 6 : lane,
                           lane >= 3 ? lane - 3 : lane,
                           lane < 16 ? lane ^ 1 : lane ^ 2};
      for (int k = 0; k < 6; ++k) REQUIRE(out[t * 8 + k] == T(base + from[k]) + T(0.5));
      REQUIRE(out[t * 8 + 6] == (base == 32));
      REQUIRE(out[t * 8 + 7] == (base == 32));
      unsigned vote = 0;
      for (int l = 0; l < 32; ++l) vote |= unsigned((base + l) % 3 == 0) << l;
      REQUIRE(votes[t] == vote);
    }
  });
}

template <int n>
__global__ void unwritten_kernel(float* out, bool write) {
  SHARED(float, one, );
  SHARED(float, fixed, [n]);
  DYN_SHARED(float, dynamic);
  out[blockIdx.x * 3] = one, out[blockIdx.x * 3 + 1] = fixed[n - 1], out[blockIdx.x * 3 + 2] = dynamic[6];
  if (write) one = fixed[n - 1] = dynamic[6] = 1;
}

TEST_CASE("host-CUDA: shared memory is NaN at the start of every block") {
  set_threads(1);  // one OS thread meets both blocks, and both kernels
  std::vector<float> out(6, 0);
  launch<unwritten_kernel<5>>(2, 1, 7 * sizeof(float), nullptr, out.data(), true);
  launch<unwritten_kernel<9>>(2, 1, 7 * sizeof(float), nullptr, out.data(), false);
  for (const float v : out) CHECK(std::isnan(v));
  set_threads(0);
}

enum class Fault {
  None,
  Divergent,
  ExitBeforeBarrier,
  ExitedLane,
  MissingLane,
  NotInMask,
  FromOutside,
  Mixed
};

__global__ void fault_kernel(Fault fault) {
  const unsigned t = threadIdx.x;
  if (fault == Fault::Divergent && blockIdx.x == 1 && t < 32) __syncthreads();
  if (fault == Fault::ExitBeforeBarrier && t > 60) return;
  __syncthreads();
  if (fault == Fault::ExitedLane && t == 5) return;
  if (fault == Fault::ExitedLane || fault == Fault::MissingLane) __shfl_xor_sync(kAll, t, 1);
  if (fault == Fault::NotInMask) __ballot_sync(0xffu, true);
  if (fault == Fault::FromOutside && t < 8) __shfl_sync(0xffu, t, 9);
  if (fault == Fault::Mixed && t == 0) __syncwarp();
  if (fault == Fault::Mixed && t > 0) __ballot_sync(kAll, true);
}

TEST_CASE("host-CUDA: errors name kernel, block, threads and lines") {
  const auto fault = [](Fault f, unsigned threads = 64) {
    return message_of([&] { launch<fault_kernel>(2, threads, 0, nullptr, f); });
  };
  for_seeds([&](uint64_t) {
    CHECK(fault(Fault::None) == "");
    const std::string divergent = fault(Fault::Divergent);
    CHECK(contains(divergent,
                   "host-CUDA: fault_kernel, block (1,0,0): divergent barrier: threads 0-31 at the "
                   "barrier of "));
    CHECK(contains(divergent, "host_cuda_test.cpp:"));
    CHECK(contains(divergent, "; threads 32-63 at the barrier of "));
    CHECK(contains(fault(Fault::ExitBeforeBarrier), "threads 61-63 exited"));
    CHECK(contains(fault(Fault::ExitedLane),
                   "a lane has exited in a warp collective: threads 0-4,6-31 at the "
                   "collective of "));
    CHECK(contains(fault(Fault::MissingLane, 48), "threads 32-47 at the collective"));
    CHECK(contains(fault(Fault::NotInMask), "calls a warp collective whose mask lacks it"));
    CHECK(contains(fault(Fault::FromOutside), "shuffles from lane 9, which the mask lacks"));
    CHECK(contains(fault(Fault::Mixed), "a warp collective that not all its lanes reach: thread 0 at the"));
    CHECK(fault(Fault::None) == "");  // nothing is left of the failed launches
  });
}

// out[0]: what is seen before the wait, out[1]: after it.
__global__ void copy_kernel(float* out, const float* x) {
  SHARED(Pack4, tile, [2]);
  cp_async16(&tile[0], x);
  cp_async_commit();
  out[0] = tile[0].at[0];
  cp_async_wait<0>();
  out[1] = tile[0].at[0];
}

TEST_CASE("host-CUDA: a cp.async lands at once on odd seeds, on even ones when it is waited for") {
  alignas(16) const float x[4] = {5, 6, 7, 8};
  for_seeds([&](uint64_t seed) {
    float out[2] = {};
    launch<copy_kernel>(1, 1, 0, nullptr, &out[0], &x[0]);
    CHECK(std::isnan(out[0]) == (seed % 2 == 0));
    CHECK(out[1] == 5);
  });
}

enum class CopyFault {
  None,
  Pack,
  Unwaited,
  Uncommitted,
  ShortWait,
  MisalignedTo,
  MisalignedFrom,
  Outside,
  Row
};

__global__ void copy_fault_kernel(CopyFault fault, const float* x) {
  SHARED(Pack4, tile, [64]);
  SHARED(Pack4, rows, [64]);
  if (fault == CopyFault::Pack && threadIdx.x == 35) load<2>(x + 3);
  float* to = tile[threadIdx.x].at + (fault == CopyFault::MisalignedTo && threadIdx.x == 35);
  alignas(16) float local[4];
  if (fault == CopyFault::Outside && threadIdx.x == 35) to = local;
  cp_async16(to, x + (fault == CopyFault::MisalignedFrom && threadIdx.x == 35));
  if (fault != CopyFault::Uncommitted) cp_async_commit();
  if (fault == CopyFault::ShortWait) cp_async_wait<1>();
  else if (fault != CopyFault::Unwaited || threadIdx.x != 35) cp_async_wait<0>();
  uint32_t r[4];
  ldmatrix_x4(r, rows[threadIdx.x].at + (fault == CopyFault::Row && threadIdx.x == 35 ? 2 : 0));
}

TEST_CASE("host-CUDA: copies that nobody waits for and wrong addresses are errors") {
  alignas(16) const float x[8] = {};
  const auto fault = [&](CopyFault f) {
    return message_of([&] { launch<copy_fault_kernel>(1, 64, 0, nullptr, f, &x[0]); });
  };
  const std::string name = "host-CUDA: copy_fault_kernel, block (0,0,0): thread ";
  for_seeds([&](uint64_t) {
    CHECK(fault(CopyFault::None) == "");
    const std::string unwaited = fault(CopyFault::Unwaited);
    CHECK(contains(unwaited, name + "35 ends before it has waited for its cp_async16 of "));
    CHECK(contains(unwaited, "host_cuda_test.cpp:"));
    CHECK(contains(fault(CopyFault::Uncommitted), "which it has not committed either"));
    CHECK(contains(fault(CopyFault::ShortWait), "ends before it has waited for its cp_async16"));
    CHECK(contains(fault(CopyFault::Pack), name + "35: an access of 8 bytes to the misaligned address 0x"));
    CHECK(contains(fault(CopyFault::MisalignedTo),
                   name + "35: cp_async16 to an address that is not a multiple of 16 bytes, at "));
    CHECK(contains(fault(CopyFault::MisalignedFrom),
                   name + "35: cp_async16 from an address that is not a multiple of 16 bytes, at "));
    CHECK(
        contains(fault(CopyFault::Outside), name + "35: cp_async16 to an address outside the shared memory"));
    CHECK(contains(fault(CopyFault::Row),
                   name + "35: ldmatrix from an address that is not a multiple of 16 bytes, at "));
    CHECK(fault(CopyFault::None) == "");
  });
}

template <int floats>
__global__ void large_kernel(float* out) {
  SHARED(float, first, [floats]);
  SHARED(float, second, [64]);
  first[0] = second[0] = 1;
  *out = first[0] + second[0];
}
__global__ void nested_kernel(float* out) { launch<large_kernel<1>>(1, 1, 0, nullptr, out); }

TEST_CASE("host-CUDA: sizes that a GPU refuses are errors") {
  constexpr int kFits = (48 << 10) / 4 - 64;
  float out = 0;
  const auto large = [&](auto kernel, dim3 grid, dim3 block, size_t bytes) {
    return message_of([&] { launch<kernel.value>(grid, block, bytes, nullptr, &out); });
  };
  constexpr std::integral_constant<void (*)(float*), &large_kernel<kFits>> fits{};
  constexpr std::integral_constant<void (*)(float*), &large_kernel<kFits + 1>> too_large{};
  CHECK(large(fits, 1, 1, 0) == "");
  CHECK(out == 2);
  CHECK(contains(large(too_large, 1, 1, 0), "static shared memory is 49156 bytes with second"));
  CHECK(large(fits, 1, 1, (227 - 48) << 10) == "");
  CHECK(contains(large(fits, 1, 1, ((227 - 48) << 10) + 1), "shared memory is 232449 bytes"));
  CHECK(contains(large(fits, 1, 1, (227 << 10) + 1), "232449 bytes of shared memory"));
  CHECK(contains(large(fits, 0, 1, 0), "a grid of (0,1,1) blocks"));
  CHECK(contains(large(fits, dim3(1, 65536), 1, 0), "a grid of (1,65536,1) blocks"));
  CHECK(contains(large(fits, 1, 0, 0), "a block of (0,1,1) threads"));
  CHECK(contains(large(fits, 1, dim3(32, 33), 0), "a block of (32,33,1) threads"));
  CHECK(contains(message_of([&] { launch<nested_kernel>(1, 1, 0, nullptr, &out); }),
                 "is launched by a kernel"));
}

#ifndef QFM_ASAN
__global__ void outside_kernel(int index, int dynamic_index) {
  SHARED(float, tile, [4]);
  DYN_SHARED(float, more);
  (&tile[0])[index] = more[dynamic_index] = 1;
}

TEST_CASE("host-CUDA: writes around shared memory are errors") {
  const auto message = [](int index, int dynamic_index) {
    return message_of([&] { launch<outside_kernel>(1, 1, 12, nullptr, index, dynamic_index); });
  };
  const std::string name = "host-CUDA: outside_kernel, block (0,0,0): shared memory around ";
  CHECK(message(3, 2) == "");
  for (const int index : {4, 35, -1})
    CHECK(contains(message(index, 0), name + "tile has been written, declared at "));
  for (const int index : {3, 34, -1}) CHECK(message(0, index) == name + "the dynamic piece has been written");
}
#endif

__global__ void throwing_kernel(int which) {
  __syncthreads();
  QFM_CHECK(static_cast<int>(threadIdx.x) != which, "thread ", which);
  __syncthreads();
}

TEST_CASE("host-CUDA: an exception leaves the kernel, and the next launch works") {
  for_seeds([](uint64_t seed) {
    CHECK(message_of([&] { launch<throwing_kernel>(3, 64, 0, nullptr, static_cast<int>(seed)); }) ==
          "thread " + std::to_string(seed));
    launch<throwing_kernel>(3, 64, 0, nullptr, -1);
  });
}

}  // namespace
}  // namespace qfm
