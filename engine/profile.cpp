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

std::mutex mutex;
std::map<std::string, ProfileRow>& totals() {
  static std::map<std::string, ProfileRow> t;
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
    ProfileRow& t = totals()[op_.name];
    t.name = op_.name;
    ++t.calls;
    t.seconds += seconds, t.flops += op_.flops, t.bytes += op_.bytes;
  } catch (...) {  // no memory for a profile line: the program matters more
  }
}

std::vector<ProfileRow> profile_rows() {
  std::lock_guard lock(mutex);
  std::vector<ProfileRow> rows;
  for (const auto& [name, row] : totals()) rows.push_back(row);
  return rows;
}

std::string profile_report() {
  std::vector<ProfileRow> rows = profile_rows();
  std::sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.seconds > b.seconds; });
  double all = 0;
  for (const ProfileRow& t : rows) all += t.seconds;
  std::string text;
  char line[160];
  for (const ProfileRow& t : rows) {
    if (text.empty()) {
      std::snprintf(line, sizeof line, "%-28s %8s %10s %6s %9s %8s\n", "op", "calls", "ms", "share",
                    "GFLOP/s", "GB/s");
      text += line;
    }
    std::snprintf(line, sizeof line, "%-28s %8llu %10.2f %5.1f%% %9.1f %8.1f\n", t.name.c_str(),
                  static_cast<unsigned long long>(t.calls), t.seconds * 1e3,
                  100 * t.seconds / std::max(all, 1e-12), t.flops / std::max(t.seconds, 1e-12) / 1e9,
                  t.bytes / std::max(t.seconds, 1e-12) / 1e9);
    text += line;
  }
  return text;
}

}  // namespace qfm
