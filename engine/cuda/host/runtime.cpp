// CUDA's streams, events and graphs where host/language.h runs the kernels. The compute stream does its work at
// once; other streams do theirs when it is waited for.
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "engine/base/error.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/host/block.h"
#include "engine/cuda/host/language.h"

namespace qfm::cuda {

struct Captured {
  std::vector<std::function<void()>> work;
};

namespace {

using Work = std::function<void()>;

struct HostStream {
  std::deque<Work> pending;
  uint64_t done = 0;  // how many pieces of work have left `pending`
  uint64_t issued() const { return done + pending.size(); }
  void run_until(uint64_t count) {
    while (done < count && !pending.empty()) {
      const Work work = std::move(pending.front());
      pending.pop_front(), ++done;
      work();
    }
  }
};

HostStream compute;
std::unique_ptr<Captured> capture;

// What an event remembers. Shared with the work that waits for it.
struct Place {
  HostStream* stream = nullptr;
  uint64_t count = 0;
  void reach() const {
    if (stream) stream->run_until(count);
  }
};

void issue(void* stream, Work work) {
  if (stream != nullptr && stream != &compute)
    static_cast<HostStream*>(stream)->pending.push_back(std::move(work));
  else if (capture) capture->work.push_back(std::move(work));
  else work();
}

void refuse_capture(const char* what) {
  QFM_CHECK(!capture, "cuda: ", what, ": a graph is being captured, nothing can wait for its work");
}

}  // namespace

bool available() noexcept { return true; }
const char* unavailable_reason() noexcept { return ""; }
void select_device(int index) { QFM_CHECK(index == 0, "no GPU ", index, ": host-CUDA has number 0 only"); }
std::string device_name() { return "host-CUDA"; }
std::string driver_version() { return "none"; }
bool keeps_time() noexcept { return false; }
size_t shared_memory_limit() { return host_cuda::kMaxShared; }
size_t l2_cache_bytes() { return size_t{64} << 10; }  // so that four times as much is soon filled

// A fresh block is NaN in every float format.
void* system_allocate(size_t bytes) {
  void* p = nullptr;
  if (posix_memalign(&p, 256, bytes) != 0) return nullptr;
  return std::memset(p, 0xff, bytes);
}
void system_release(void* p) noexcept { std::free(p); }
void* pinned_allocate(size_t bytes) { return system_allocate(bytes); }
void pinned_release(void* p) noexcept { system_release(p); }

void* compute_stream() { return &compute; }

void copy_async(void* dst, const void* src, size_t bytes, void* stream) {
  issue(stream, [=] { std::memcpy(dst, src, bytes); });
}
void zero_async(void* dst, size_t bytes, void* stream) {
  issue(stream, [=] { std::memset(dst, 0, bytes); });
}
void copy(void* dst, const void* src, size_t bytes) {
  refuse_capture("copy");
  std::memcpy(dst, src, bytes);
}
void synchronize() { refuse_capture("synchronize"); }

Stream::Stream() : stream_(new HostStream) {}
Stream::~Stream() {
  auto* stream = static_cast<HostStream*>(stream_);
  stream->run_until(stream->issued());
  delete stream;
}

Event::Event(bool /*timed*/) : event_(new Place) {}
Event::~Event() { delete static_cast<Place*>(event_); }
void Event::record(void* stream) {
  refuse_capture("event");
  auto* on = stream == nullptr ? &compute : static_cast<HostStream*>(stream);
  *static_cast<Place*>(event_) = {on, on->issued()};
}
void Event::wait(void* stream) const {
  refuse_capture("event");
  issue(stream, [place = *static_cast<Place*>(event_)] { place.reach(); });
}
double Event::milliseconds_since(const Event&) const { QFM_FAIL("cuda: host-CUDA keeps no time"); }
void Event::synchronize() const {
  refuse_capture("event");
  static_cast<Place*>(event_)->reach();
}

bool capturing() noexcept { return capture != nullptr; }
void begin_capture() {
  refuse_capture("begin_capture");
  capture = std::make_unique<Captured>();
}
Captured* end_capture(bool keep) {
  if (!keep) capture.reset();
  return capture.release();
}
void launch_captured(Captured* work) {
  refuse_capture("launch_captured");
  for (const Work& piece : work->work) piece();
}
void release_captured(Captured* work) noexcept { delete work; }

}  // namespace qfm::cuda

namespace qfm::host_cuda {

bool runs_at_once(void* stream) { return !cuda::capture && (stream == nullptr || stream == &cuda::compute); }

void queue(const Launch& launch, void* stream, std::shared_ptr<const void> arguments) {
  check_sizes(launch);
  cuda::issue(stream, [launch, arguments = std::move(arguments)] {
    Launch kept = launch;
    kept.arguments = arguments.get();
    run(kept);
  });
}

}  // namespace qfm::host_cuda
