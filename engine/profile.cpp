#include "engine/profile.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

namespace qfm {
namespace {

struct Total {
  uint64_t calls = 0;
  double seconds = 0, flops = 0, bytes = 0;
};
std::mutex mutex;
std::map<std::string, Total>& totals() {
  static std::map<std::string, Total> t;
  return t;
}
std::atomic<bool>& enabled() {
  static std::atomic<bool> on = [] {
    const char* v = std::getenv("QFM_PROFILE");
    return v && *v && *v != '0';
  }();
  return on;
}

}  // namespace

bool profiling() { return enabled().load(std::memory_order_relaxed); }
void set_profiling(bool on) { enabled().store(on); }
void reset_profile() {
  std::lock_guard lock(mutex);
  totals().clear();
}

void ProfileScope::finish() noexcept {
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  try {
    std::lock_guard lock(mutex);
    Total& t = totals()[op_.name];
    ++t.calls;
    t.seconds += seconds, t.flops += op_.flops, t.bytes += op_.bytes;
  } catch (...) {  // no memory for a profile line: the program matters more
  }
}

std::string profile_report() {
  std::lock_guard lock(mutex);
  std::vector<std::pair<std::string, Total>> rows(totals().begin(), totals().end());
  std::sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.second.seconds > b.second.seconds; });
  double all = 0;
  for (auto& [name, t] : rows) all += t.seconds;
  std::string text;
  char line[160];
  for (auto& [name, t] : rows) {
    if (text.empty()) {
      std::snprintf(line, sizeof line, "%-28s %8s %10s %6s %9s %8s\n", "op", "calls", "ms", "share",
                    "GFLOP/s", "GB/s");
      text += line;
    }
    std::snprintf(line, sizeof line, "%-28s %8llu %10.2f %5.1f%% %9.1f %8.1f\n", name.c_str(),
                  static_cast<unsigned long long>(t.calls), t.seconds * 1e3,
                  100 * t.seconds / std::max(all, 1e-12), t.flops / std::max(t.seconds, 1e-12) / 1e9,
                  t.bytes / std::max(t.seconds, 1e-12) / 1e9);
    text += line;
  }
  return text;
}

}  // namespace qfm
