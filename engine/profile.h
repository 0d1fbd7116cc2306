// The op profiler: time, FLOPs and bytes per op name. Off unless QFM_PROFILE=1 or a benchmark turns it on.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace qfm {

// What one call costs by the mathematics: matrix FLOPs (2 per multiply-add) and bytes that must move at least once.
struct Op {
  const char* name;
  double flops = 0, bytes = 0;
};

bool profiling();
void set_profiling(bool on);
void reset_profile();
struct ProfileRow {
  std::string name;
  uint64_t calls = 0;
  double seconds = 0, flops = 0, bytes = 0;  // sums over all calls
};
std::vector<ProfileRow> profile_rows();  // by name
// A table, most time first: op, calls, ms, share, GFLOP/s, GB/s. Empty when nothing was recorded.
std::string profile_report();

// Adds the time between its construction and destruction to the op. Nested scopes count in both.
class ProfileScope {
 public:
  explicit ProfileScope(const Op& op) : op_(op) {
    if (profiling()) start_ = std::chrono::steady_clock::now();
  }
  ~ProfileScope() {
    if (start_ != std::chrono::steady_clock::time_point{}) finish();
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  void finish() noexcept;
  Op op_;
  std::chrono::steady_clock::time_point start_{};
};

}  // namespace qfm
