// The race detector of a QFM_RACE build: which pairs of accesses it reports, and which CUDA orders.
#include <vector>

#include "engine/cuda/warp_ops.h"
#include "tests/schedules.h"
#include "tests/support.h"

namespace qfm {
namespace {

using test::contains;
using test::message_of;

enum class Between { Nothing, Barrier, Syncwarp, HalfSyncwarp, Shuffle };

// Thread t writes seat t, then reads seat t + step of the 64.
__global__ void seats_kernel(float* out, Between between, int step) {
  SHARED(float, seat, [64]);
  const int t = threadIdx.x;
  seat[t] = static_cast<float>(t);
  if (between == Between::Barrier) __syncthreads();
  if (between == Between::Syncwarp) __syncwarp();
  if (between == Between::HalfSyncwarp) __syncwarp(t % 32 < 16 ? 0xffffu : 0xffff0000u);
  if (between == Between::Shuffle) __shfl_xor_sync(kWholeWarp, t, 1);
  out[t] = seat[(t + step) % 64];
}

TEST_CASE("races: barriers and __syncwarp order memory, shuffles do not") {
  const auto race = [](Between between, int step) {
    std::vector<float> out(64);
    return message_of([&] { launch<seats_kernel>(1, 64, 0, nullptr, out.data(), between, step); });
  };
  test::for_schedules([&] {
    CHECK(race(Between::Barrier, 1) == "");
    CHECK(race(Between::Nothing, 0) == "");
    for (const Between b : {Between::Nothing, Between::Shuffle, Between::Syncwarp, Between::HalfSyncwarp}) {
      const std::string message = race(b, 1);  // lane 31 and the next warp, at the least
      CHECK(contains(message, "host-CUDA: seats_kernel, block (0,0,0): race on shared memory seat + "));
      CHECK(contains(message, "race_test.cu:"));
      CHECK(contains(message, ", thread "));
    }
  });
}

// The same inside each half of a warp.
__global__ void pairs_kernel(float* out, Between between, int distance) {
  SHARED(float, seat, [32]);
  const int t = threadIdx.x;
  seat[t] = static_cast<float>(t);
  if (between == Between::Syncwarp) __syncwarp();
  if (between == Between::HalfSyncwarp) __syncwarp(t < 16 ? 0xffffu : 0xffff0000u);
  if (between == Between::Shuffle) __shfl_xor_sync(kWholeWarp, t, 1);
  out[t] = seat[t ^ distance];
}

TEST_CASE("races: __syncwarp orders the lanes of its mask") {
  const auto race = [](Between between, int distance) {
    std::vector<float> out(32);
    return !message_of([&] {
              launch<pairs_kernel>(1, 32, 0, nullptr, out.data(), between, distance);
            }).empty();
  };
  test::for_schedules([&] {
    CHECK(!race(Between::Syncwarp, 1));
    CHECK(!race(Between::Syncwarp, 16));
    CHECK(!race(Between::HalfSyncwarp, 8));
    CHECK(race(Between::HalfSyncwarp, 16));
    CHECK(race(Between::Shuffle, 1));
    CHECK(race(Between::Nothing, 1));
  });
}

// A block writes elements 2 b and 2 b + 1 - overlap.
template <class T>
__global__ void blocks_kernel(T* out, const T* in, int overlap) {
  out[2 * blockIdx.x] = in[0];
  out[2 * blockIdx.x + 1 + overlap] = in[0];
}

TEST_CASE_TEMPLATE("races: nothing orders blocks; neighbours are apart", T, uint8_t, bf16, float, double) {
  const std::vector<T> in(1, T(1.0f));
  std::vector<T> out(9);
  test::for_schedules([&] {
    const auto race = [&](int overlap) {
      return message_of([&] { launch<blocks_kernel<T>>(4, 1, 0, nullptr, out.data(), in.data(), overlap); });
    };
    CHECK(race(0) == "");
    const std::string message = race(1);
    CHECK(contains(message, "race on global memory 0x"));
    CHECK(contains(message, "thread 0 writes at "));
    CHECK(contains(message, "thread 0 of block ("));
    CHECK(race(0) == "");  // the launch before is over
  });
}

// Writes after reads: all threads read one place, the last one then writes it.
__global__ void overwrite_kernel(float* p, float* out, bool barrier) {
  out[threadIdx.x] = p[0];
  if (barrier) __syncthreads();
  if (threadIdx.x == 95) p[0] = 2;
}

TEST_CASE("races: a write after others' reads") {
  std::vector<float> p(1), out(96);
  test::for_schedules([&] {
    const auto race = [&](bool barrier) {
      return message_of([&] { launch<overwrite_kernel>(1, 96, 0, nullptr, p.data(), out.data(), barrier); });
    };
    CHECK(race(true) == "");
    CHECK(contains(race(false), "race on global memory"));
  });
}

enum class Look { AfterBarrier, AfterWait, BeforeWait };

__global__ void copied_kernel(float* out, const float* x, Look look) {
  using Pack4 = Pack<float, 4>;
  SHARED(Pack4, tile, [64]);
  const int t = threadIdx.x;
  cp_async16(&tile[t], x);
  cp_async_commit();
  if (look == Look::BeforeWait) out[t] = tile[t].at[1];
  cp_async_wait<0>();
  if (look == Look::AfterBarrier) __syncthreads();
  if (look != Look::BeforeWait) out[t] = tile[(t + 1) % 64].at[0];
}

TEST_CASE(
    "races: a cp.async is nobody's before its wait, its thread's after it, all threads' after a barrier") {
  alignas(16) const float x[4] = {};
  std::vector<float> out(64);
  test::for_schedules([&] {
    const auto race = [&](Look look) {
      return message_of([&] { launch<copied_kernel>(1, 64, 0, nullptr, out.data(), &x[0], look); });
    };
    CHECK(race(Look::AfterBarrier) == "");
    CHECK(contains(race(Look::AfterWait), "race on shared memory tile + "));
    CHECK(contains(race(Look::BeforeWait), " has not waited for its cp_async16 of "));
  });
}

__global__ void bounds_kernel(float* out, int index) {
  SHARED(float, tile, [4]);
  tile[0] = 1;
  out[0] = (&tile[0])[index];
}

TEST_CASE("races: accesses around shared memory are named") {
  float out = 0;
  const auto message = [&](int index) {
    return message_of([&] { launch<bounds_kernel>(1, 1, 0, nullptr, &out, index); });
  };
  CHECK(message(3) == "");
  CHECK(contains(message(4), "thread 0 reads past the bounds of tile at "));
  CHECK(contains(message(4), "race_test.cu:"));
  CHECK(contains(message(-1), "thread 0 reads past the bounds of tile at "));
}

}  // namespace
}  // namespace qfm
