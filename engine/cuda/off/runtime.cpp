// The build without CUDA.
#include "engine/base/error.h"
#include "engine/cuda/cuda.h"

namespace qfm::cuda {
namespace {

constexpr const char* kReason = "this build has no CUDA (configure with -DQFM_CUDA=device; it needs nvcc)";
[[noreturn]] void fail() { QFM_FAIL("cuda: ", kReason); }

}  // namespace

bool available() noexcept { return false; }
const char* unavailable_reason() noexcept { return kReason; }
void select_device(int) { fail(); }
std::string device_name() { fail(); }
std::string driver_version() { fail(); }
bool keeps_time() noexcept { return false; }
size_t shared_memory_limit() { fail(); }
size_t l2_cache_bytes() { fail(); }

void* system_allocate(size_t) { return nullptr; }
void system_release(void*) noexcept {}
void* pinned_allocate(size_t) { return nullptr; }
void pinned_release(void*) noexcept {}

void* compute_stream() { fail(); }
void copy_async(void*, const void*, size_t, void*) { fail(); }
void zero_async(void*, size_t, void*) { fail(); }
void copy(void*, const void*, size_t) { fail(); }
void synchronize() { fail(); }

Stream::Stream() { fail(); }
Stream::~Stream() = default;
Event::Event(bool) { fail(); }
Event::~Event() = default;
void Event::record(void*) { fail(); }
void Event::wait(void*) const { fail(); }
void Event::synchronize() const { fail(); }
double Event::milliseconds_since(const Event&) const { fail(); }

bool capturing() noexcept { return false; }
void begin_capture() { fail(); }
Captured* end_capture(bool) { return nullptr; }
void launch_captured(Captured*) { fail(); }
void release_captured(Captured*) noexcept {}

}  // namespace qfm::cuda
