// Streams, events, graphs and their memory, on a GPU or in host-CUDA.
#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/cuda/cuda.h"
#include "engine/memory/graph.h"
#include "engine/memory/memory.h"
#include "kernels/pointwise/map.h"
#include "tests/support.h"
#ifdef QFM_CUDA_DEVICE
#include "engine/cuda/launch.h"
#endif

using namespace qfm;
using namespace qfm::test;

namespace {

// n floats on the device.
struct Floats {
  size_t n;
  float* data;
  Floats(size_t count, float value) : n(count), data(static_cast<float*>(allocate(cuda_device, bytes()))) {
    set(value);
  }
  ~Floats() { release(cuda_device, data, bytes()); }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  size_t bytes() const { return n * sizeof(float); }
  void set(float value) const {
    const std::vector<float> values(n, value);
    copy_bytes(cuda_device, data, cpu_device, values.data(), bytes());
  }
  // The value of all elements; NaN where they differ.
  float value() const {
    std::vector<float> values(n);
    copy_bytes(cpu_device, values.data(), cuda_device, data, bytes());
    return values == std::vector<float>(n, values[0]) ? values[0] : NAN;
  }
  void add_to(const Floats& sum) const {
    map(Cuda{cuda::compute_stream()}, fn::Add{}, flat_space<2>(static_cast<int64_t>(n)), sum.data,
        MapInputs<float, 2>{{sum.data, data}});
  }
};

size_t live() { return memory_count(cuda_device).live; }

}  // namespace

TEST_CASE("a graph replays what it was given, by value, and computes nothing while it is captured") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const size_t before = live();
  {
    const Floats one(1000, 1), two(1000, 2), sum(1000, 0);
    Graph graph;
    graph.capture([&] {
      one.add_to(sum);
      two.add_to(sum);
      copy_bytes(cuda_device, one.data, cuda_device, two.data, one.bytes());
    });
    CHECK_FALSE(cuda::capturing());
    CHECK(sum.value() == 0);
    graph.replay();
    CHECK(sum.value() == 3);
    CHECK(one.value() == 2);
    two.set(10);  // memory is read when the graph runs
    graph.replay();
    graph.replay();
    CHECK(sum.value() == 3 + 2 + 10 + 10 + 10);
  }
  CHECK(live() == before);
}

TEST_CASE("memory taken during a capture belongs to the graph") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const size_t before = live();
  const Floats one(5000, 1), result(5000, 0);
  const size_t outside = live();
  Graph graph;
  void *first = nullptr, *second = nullptr;
  graph.capture([&] {
    const auto temporary = [&](void*& address) {
      const DeviceScratch scratch(one.bytes());
      address = scratch.as<void>();
      copy_bytes(cuda_device, address, cuda_device, one.data, one.bytes());
      map(Cuda{cuda::compute_stream()}, fn::Add{}, flat_space<2>(5000), result.data,
          MapInputs<float, 2>{{result.data, scratch.as<float>()}});
    };
    temporary(first), temporary(second);
  });
  CHECK(first == second);       // reused inside
  CHECK(live() > outside);      // and counted as in use
  const Floats other(5000, 7);  // not handed to others
  CHECK(static_cast<void*>(other.data) != first);
  graph.replay();
  CHECK(result.value() == 2);
  CHECK(other.value() == 7);
  graph.reset();
  CHECK(live() == outside + (outside - before) / 2);  // `other`
  const Floats reused(5000, 0);
  CHECK(static_cast<void*>(reused.data) == first);
}

TEST_CASE("a capture that fails leaves nothing behind; what would wait is refused") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const Floats one(300, 1), sum(300, 0);
  const size_t before = live();
  Graph graph;
  const std::string waits = message_of([&] {
    graph.capture([&] {
      const DeviceScratch scratch(1 << 20);
      one.add_to(sum);
      sum.value();
    });
  });
  CHECK(contains(waits, "a graph is being captured"));
  CHECK(graph.empty());
  fail_allocation(1);
  CHECK_THROWS_AS(graph.capture([&] { const DeviceScratch scratch(64); }), OutOfMemory);
  CHECK(graph.empty());
  CHECK_FALSE(cuda::capturing());
  CHECK(live() == before);
  CHECK(sum.value() == 0);
  one.add_to(sum);
  CHECK(sum.value() == 1);
  CHECK(contains(message_of([&] { graph.replay(); }), "empty graph"));
}

TEST_CASE("copies on a second stream are ordered by events") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  const PinnedBuffer host(400 * sizeof(float));
  const Floats batch(400, 0), sum(400, 0);
  cuda::Stream copies;
  cuda::Event ready, done;
  for (int step = 1; step <= 3; ++step) {
    done.synchronize();  // the buffer was read
    std::fill_n(host.as<float>(), 400, static_cast<float>(step));
    ready.wait(copies.get());  // the kernel before has read the batch
    cuda::copy_async(batch.data, host.as<float>(), host.bytes(), copies.get());
    done.record(copies.get());
    done.wait(cuda::compute_stream());
    batch.add_to(sum);
    ready.record(cuda::compute_stream());
  }
  CHECK(sum.value() == 6);
#ifdef QFM_CUDA_HOST  // late on purpose: a missing wait shows
  std::fill_n(host.as<float>(), 400, 100.0f);
  cuda::copy_async(batch.data, host.as<float>(), host.bytes(), copies.get());
  CHECK(batch.value() == 3);
  done.record(copies.get());
  done.synchronize();
  CHECK(batch.value() == 100);
#endif
}

TEST_CASE("a device that does not exist, page-locked memory that does not") {
  if (!cuda::available()) QFM_SKIP(std::string(cuda::unavailable_reason()));
  CHECK(contains(message_of([] { cuda::select_device(99); }), "no GPU 99"));
  CHECK_FALSE(cuda::device_name().empty());
  fail_allocation(1);
  CHECK_THROWS_AS(PinnedBuffer(64), OutOfMemory);
  CHECK_THROWS_AS(PinnedBuffer(size_t{1} << 60), OutOfMemory);
}

#ifdef QFM_CUDA_DEVICE
TEST_CASE("what CUDA reports says what to do") {
  using cuda::failure;
  CHECK(contains(failure(cudaErrorIllegalAddress, "cudaMalloc"), "QFM_CUDA_SYNC=1 names it"));
  CHECK(contains(failure(cudaErrorAssert, "launch of gate_kernel"), "launch of gate_kernel: "));
  CHECK(contains(failure(cudaErrorNoKernelImageForDevice, "launch of gate_kernel"), "built for other GPUs"));
  CHECK_FALSE(contains(failure(cudaErrorInvalidConfiguration, "launch of gate_kernel"), "QFM_CUDA_SYNC"));
}
#endif
