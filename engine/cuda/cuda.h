// The one door to CUDA. Three worlds, picked by CMake: QFM_CUDA_DEVICE (nvcc, a GPU), QFM_CUDA_HOST (the same
// kernels run on the CPU by fibers, see host/language.h) or neither (every call throws or returns null).
//
// All tensor operations run on one compute stream, in the order in which they are issued. One thread at a
// time issues them. A status that is not success is an Error "cuda: CALL: reason".
#pragma once
#include <cstddef>
#include <memory>
#include <string>

namespace qfm::cuda {

// True when kernels can run: a GPU with a working driver, or the host layer.
bool available() noexcept;
// Why not, and what to do ("no GPU: ..."), for a message; empty when available.
const char* unavailable_reason() noexcept;
// Which GPU serves; to be called before anything else here. Throws Error for an index that
// does not exist.
void select_device(int index);
std::string device_name();
std::string driver_version();  // "580.95.05"
// Whether timed events measure time: a GPU's do, host-CUDA's do not.
bool keeps_time() noexcept;
// Bytes of shared memory that a block may ask for.
size_t shared_memory_limit();
// Bytes of the cache that all of the GPU's processors share: a measurement of memory must go far beyond it.
size_t l2_cache_bytes();

// Null: no memory, or no CUDA. Throws Error where the GPU fails for another reason.
void* system_allocate(size_t bytes);
void system_release(void* p) noexcept;
// Page-locked memory of the host, which a GPU reads and writes while kernels run. As system_allocate.
void* pinned_allocate(size_t bytes);
void pinned_release(void* p) noexcept;

void* compute_stream();

// In the order of `stream`. Memory of the host must be pinned, and stay as it is until the copy is done.
void copy_async(void* dst, const void* src, size_t bytes, void* stream);
void zero_async(void* dst, size_t bytes, void* stream);
// In the order of the compute stream, done on return; either side may be any memory of the host.
void copy(void* dst, const void* src, size_t bytes);
// Waits for the compute stream. Throws Error for what went wrong in its kernels.
void synchronize();

// A stream beside the compute stream: copies on it overlap with kernels. In host-CUDA they happen as late as
// they may, so that a missing wait shows.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  void* get() const { return stream_; }

 private:
  void* stream_;
};

// A place in the work of a stream.
class Event {
 public:
  explicit Event(bool timed = false);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(void* stream);
  // What is issued to `stream` from now on waits for the place recorded last (none: waits for nothing).
  void wait(void* stream) const;
  // The calling thread waits.
  void synchronize() const;
  // On the GPU's clock, from the place of `start` to this one; both are timed, and this one is waited for.
  // Throws Error where nothing keeps_time().
  double milliseconds_since(const Event& start) const;

 private:
  [[maybe_unused]] void* event_;  // unused where there is no CUDA
};

// Work of the compute stream, recorded instead of done: kernels and copies with their arguments by value.
// What graph.h is made of. While a capture lasts, everything that would wait for the stream throws Error.
bool capturing() noexcept;
void begin_capture();
struct Captured;  // owned by the caller, see release_captured
// Ends the capture; keep = false throws the work away and returns null, and never throws.
Captured* end_capture(bool keep);
void launch_captured(Captured* work);
void release_captured(Captured* work) noexcept;

}  // namespace qfm::cuda
