// Results made ahead of time by threads of their own and handed over in order: decoding
// hidden behind compute.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace qfm {

// make(i) for i = first, first + 1, ..., end - 1. Which thread makes what changes no result, because make
// sees only i. At most `depth` results are under way or waiting. workers = 0: next() makes each one itself.
template <class T>
class Prefetch {
 public:
  Prefetch(int64_t first, int64_t end, int workers, int64_t depth, std::function<T(int64_t)> make)
      : make_(std::move(make)),
        claimed_(first),
        given_(first),
        end_(end),
        slots_(static_cast<size_t>(depth)) {
    try {
      for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~Prefetch() { stop(); }
  Prefetch(const Prefetch&) = delete;
  Prefetch& operator=(const Prefetch&) = delete;

  bool done() const { return given_ == end_; }

  // The next result; rethrows what its make threw. Not to be called when done().
  T next() {
    if (threads_.empty()) return make_(given_++);
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return slot(given_).has_value(); });
    Result result = *std::move(slot(given_));
    slot(given_++).reset();
    lock.unlock();
    room_.notify_all();
    if (result.error) std::rethrow_exception(result.error);
    return std::move(result.value);
  }

 private:
  struct Result {
    T value;
    std::exception_ptr error;
  };

  std::optional<Result>& slot(int64_t i) { return slots_[static_cast<size_t>(i) % slots_.size()]; }

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      room_.wait(lock, [&] {
        return stopping_ || claimed_ == end_ || claimed_ < given_ + static_cast<int64_t>(slots_.size());
      });
      if (stopping_ || claimed_ == end_) return;
      const int64_t i = claimed_++;
      lock.unlock();
      Result result;
      try {
        result.value = make_(i);
      } catch (...) {
        result.error = std::current_exception();
      }
      lock.lock();
      slot(i) = std::move(result);
      ready_.notify_one();
    }
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    room_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  std::function<T(int64_t)> make_;
  std::mutex mutex_;
  std::condition_variable ready_, room_;  // a result has come; a claim may be made
  int64_t claimed_, given_;
  const int64_t end_;
  bool stopping_ = false;
  std::vector<std::optional<Result>> slots_;  // a ring
  std::vector<std::thread> threads_;
};

}  // namespace qfm
