// Memory of a device for kernel tests: exactly as large as asked, between two guard bands, all filled with
// NaN bytes.
#pragma once
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "engine/memory/memory.h"
#ifdef QFM_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace qfm::test {

// A read before or past the data finds NaN, a write there is found by values(). Where the host can be watched
// by ASan, either stops the program.
template <class T>
class Guarded {
 public:
  // shift: elements by which the data is moved off its alignment.
  Guarded(Device device, size_t count, size_t shift = 0)
      : device_(device),
        count_(count),
        front_(kBand + shift * sizeof(T)),
        total_(front_ + count * sizeof(T) + kBand) {
    memory_ = static_cast<char*>(allocate(device, total_));
    const std::vector<char> nan(total_, '\xff');
    copy_bytes(device, memory_, cpu_device, nan.data(), total_);
    watch(true);
  }
  Guarded(Device device, const std::vector<T>& values, size_t shift = 0)
      : Guarded(device, values.size(), shift) {
    copy_bytes(device, data(), cpu_device, values.data(), count_ * sizeof(T));
  }
  ~Guarded() {
    watch(false);
    release(device_, memory_, total_);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return reinterpret_cast<T*>(memory_ + front_); }

  // Checks that the guards are untouched.
  std::vector<T> values() {
    watch(false);
    std::vector<char> all(total_);
    copy_bytes(cpu_device, all.data(), device_, memory_, total_);
    watch(true);
    std::vector<T> data(count_);
    if (count_ > 0) std::memcpy(static_cast<void*>(data.data()), all.data() + front_, count_ * sizeof(T));
    all.erase(all.begin() + front_, all.begin() + front_ + count_ * sizeof(T));
    CHECK(all == std::vector<char>(all.size(), '\xff'));
    return data;
  }

 private:
  static constexpr size_t kBand = 256;  // bytes; keeps the alignment of the device's blocks

  void watch([[maybe_unused]] bool on) {
#if defined(QFM_ASAN) && !defined(QFM_CUDA_DEVICE)
    const auto set = on ? &__asan_poison_memory_region : &__asan_unpoison_memory_region;
    set(memory_, front_);
    set(memory_ + front_ + count_ * sizeof(T), kBand);
#endif
  }

  Device device_;
  size_t count_, front_, total_;
  char* memory_;
};

}  // namespace qfm::test
