#include "engine/base/threads.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/base/error.h"

namespace qfm {
namespace {

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

thread_local bool inside_parallel = false;

// Chunks are claimed from one counter. A helper spins briefly for the next job (a forward pass starts one
// every few microseconds) and then sleeps.
class Pool {
 public:
  ~Pool() { stop(); }

  void resize(int n) {
    std::lock_guard guard(caller_);
    stop();
    count_ = n;
  }
  int size() const { return count_; }

  void run(int64_t chunks, void (*call)(void*, int64_t), void* context) {
    if (chunks <= 1 || count_ == 1 || inside_parallel || !caller_.try_lock()) {
      for (int64_t i = 0; i < chunks; ++i) call(context, i);
      return;
    }
    std::lock_guard guard(caller_, std::adopt_lock);
    start();
    {
      std::lock_guard lock(mutex_);
      call_ = call, context_ = context, chunks_ = chunks;
      next_.store(0, std::memory_order_relaxed);
      failure_ = nullptr;
      busy_.store(static_cast<int>(helpers_.size()), std::memory_order_relaxed);
      job_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    work();
    for (int spin = 0; busy_.load(std::memory_order_acquire) != 0; ++spin)
      if (spin > 1000) std::this_thread::yield();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void work() {
    inside_parallel = true;
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < chunks_;) {
      try {
        call_(context_, i);
      } catch (...) {
        std::lock_guard lock(failure_mutex_);
        if (!failure_) failure_ = std::current_exception();
      }
    }
    inside_parallel = false;
  }

  void helper(uint64_t seen) {
    while (true) {
      for (int spin = 0; spin < kSpins && job_.load(std::memory_order_acquire) == seen; ++spin)
        __builtin_ia32_pause();
      if (job_.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return job_.load(std::memory_order_relaxed) != seen; });
      }
      seen = job_.load(std::memory_order_acquire);
      if (stopping_.load(std::memory_order_acquire)) return;
      work();
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  void start() {
    while (static_cast<int>(helpers_.size()) < count_ - 1)
      helpers_.emplace_back([this, seen = job_.load()] { helper(seen); });
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_.store(true);
      job_.fetch_add(1);
    }
    wake_.notify_all();
    for (auto& t : helpers_) t.join();
    helpers_.clear();
    stopping_.store(false);
  }

  static constexpr int kSpins = 4000;
  int count_ = available_cores();
  std::mutex caller_;  // one parallel_for at a time; a second caller runs its own chunks itself
  std::mutex mutex_, failure_mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> helpers_;
  std::atomic<uint64_t> job_{0};
  std::atomic<int64_t> next_{0};
  std::atomic<int> busy_{0};
  std::atomic<bool> stopping_{false};
  void (*call_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
  int64_t chunks_ = 0;
  std::exception_ptr failure_;
};

Pool& pool() {
  static Pool p;
  return p;
}

}  // namespace

void set_threads(int n) {
  QFM_CHECK(n >= 0 && n <= 1024, "threads: ", n, " is not between 0 (all cores) and 1024");
  pool().resize(n == 0 ? available_cores() : n);
}

int threads() { return pool().size(); }

void detail::parallel_run(int64_t chunks, void (*call)(void*, int64_t), void* context) {
  pool().run(chunks, call, context);
}

}  // namespace qfm
