// What this machine can do at most: the yardstick of every benchmark, measured in the same run.
#pragma once
#include <string>

namespace qfm {

struct Peaks {
  double gflops = 0;    // F32 fused multiply-adds, two operations each, all threads together; 0 without AVX2
  std::string isa;      // "avx512" or "avx2": whose loop was faster
  double copy_gbs = 0;  // copying between arrays beyond the caches, bytes read + bytes written
};

// Threads are pinned and start together; the slowest counts; the best of 9 runs, as others disturb only
// downwards.
Peaks measure_peaks(int threads);

std::string cpu_name();  // from /proc/cpuinfo

}  // namespace qfm
