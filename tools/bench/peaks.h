// What this machine can do at most: the yardstick of every benchmark, measured in the same run.
#pragma once
#include <string>

namespace qfm {

struct Peaks {
  double gflops = 0;    // two operations a multiply-add, the whole device together; 0 on a CPU without AVX2
  std::string by;       // what was fastest: "avx512", "avx2" or "plain"; on a GPU "cublaslt", or "own" without it
  std::string of;       // doing what: "f32 FMA"; on a GPU "product of 8192, bf16"
  double copy_gbs = 0;  // copying between arrays cold_bytes the caches, bytes read + bytes written
};

// Threads are pinned and start together; the slowest counts; the best of 9 runs, as others disturb only downwards.
Peaks measure_peaks(int threads);

std::string cpu_name();  // from /proc/cpuinfo

}  // namespace qfm
