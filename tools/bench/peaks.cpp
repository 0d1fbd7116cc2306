#include "tools/bench/peaks.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "engine/base/cpu.h"

namespace qfm {
namespace avx2 {
int64_t fma_loop_flops();
float fma_loop(int64_t iterations, float scale, float offset);
}  // namespace avx2
namespace avx512 {
int64_t fma_loop_flops();
float fma_loop(int64_t iterations, float scale, float offset);
}  // namespace avx512
namespace {

constexpr int kRuns = 9;

// What the compiler makes of it for any processor.
constexpr int kSums = 32;
float plain_loop(int64_t iterations, float scale, float offset) {
  float sum[kSums];
  std::iota(sum, sum + kSums, 0.0f);
  for (int64_t n = 0; n < iterations; ++n)
    for (float& s : sum) s = s * scale + offset;
  return std::accumulate(sum, sum + kSums, 0.0f);
}

std::vector<int> granted_cpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) cpus.push_back(i);
  return cpus;
}

void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

// Seconds that the slowest of `threads` takes for work(its number).
double slowest_seconds(int threads, const std::function<void(int)>& work) {
  const auto cpus = granted_cpus();
  std::barrier start(threads);
  std::vector<double> seconds(static_cast<size_t>(threads));
  std::vector<std::jthread> pool;
  for (int t = 0; t < threads; ++t)
    pool.emplace_back([&, t] {
      if (!cpus.empty()) pin(cpus[static_cast<size_t>(t) % cpus.size()]);
      start.arrive_and_wait();
      const auto begin = std::chrono::steady_clock::now();
      work(t);
      seconds[static_cast<size_t>(t)] =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    });
  pool.clear();
  return *std::max_element(seconds.begin(), seconds.end());
}

double best_seconds(int threads, const std::function<void(int)>& work) {
  double best = slowest_seconds(threads, work);
  for (int run = 1; run < kRuns; ++run) best = std::min(best, slowest_seconds(threads, work));
  return best;
}

double fma_gflops(int threads, float (*loop)(int64_t, float, float), int64_t flops) {
  constexpr int64_t kIterations = 4'000'000;
  std::vector<float> sums(static_cast<size_t>(threads));  // used, so that the loop is not removed
  const double seconds =
      best_seconds(threads, [&](int t) { sums[static_cast<size_t>(t)] = loop(kIterations, 0.999f, 0.001f); });
  return static_cast<double>(kIterations * flops * threads) / seconds / 1e9;
}

double copy_gbs(int threads) {
  // Four times the last cache, the two arrays together.
  const int64_t cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), int64_t{32} << 20);
  const auto bytes = static_cast<size_t>(std::min<int64_t>(4 * cache, int64_t{1} << 30) / 2 / threads);
  std::vector<std::unique_ptr<char[]>> from, to;
  for (int t = 0; t < threads; ++t) {
    from.push_back(std::make_unique_for_overwrite<char[]>(bytes));
    to.push_back(std::make_unique_for_overwrite<char[]>(bytes));
  }
  slowest_seconds(threads, [&](int t) { std::memset(from[static_cast<size_t>(t)].get(), 1, bytes); });
  const double seconds = best_seconds(threads, [&](int t) {
    std::memcpy(to[static_cast<size_t>(t)].get(), from[static_cast<size_t>(t)].get(), bytes);
  });
  return 2.0 * static_cast<double>(bytes) * threads / seconds / 1e9;
}

}  // namespace

Peaks measure_peaks(int threads) {
  Peaks peaks;
  peaks.of = "f32 FMA";
  const auto take = [&](const char* isa, double gflops) {
    if (gflops > peaks.gflops) peaks.gflops = gflops, peaks.by = isa;
  };
  take("plain", fma_gflops(threads, plain_loop, 2 * kSums));
  if constexpr (has_vector_code) {
    if (available(CpuIsa::Avx2)) take("avx2", fma_gflops(threads, avx2::fma_loop, avx2::fma_loop_flops()));
    if (available(CpuIsa::Avx512)) take("avx512", fma_gflops(threads, avx512::fma_loop, avx512::fma_loop_flops()));
  }
  peaks.copy_gbs = copy_gbs(threads);
  return peaks;
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(": ") + 2));
  return "unknown";
}

}  // namespace qfm
