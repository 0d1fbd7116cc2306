// What the benchmarks share: timing, counting, and the report.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/error.h"
#include "models/registry.h"
#include "tools/bench/peaks.h"
#include "tools/cli/command.h"
#include "tools/cli/console.h"
#include "tools/cli/results.h"

namespace qfm {

struct BenchOptions {
  CommonOptions common;
  std::string only, arch, output, peaks;
  std::vector<std::string> photos;  // bench decode: files in place of the drawn ones
  int64_t batch = 0;  // 0: those of the benchmark
  // For train: the method's switches, as in `qfm train`.
  std::string match = "off", method_version = "v1";
  int64_t adversarial = 0;
  bool select = false;
  double ema = 0, w_contrast = 0, w_distil_feat = 0;
  bool method() const { return select || match != "off" || ema > 0 || w_contrast > 0 || w_distil_feat > 0; }
  bool plan = false;  // bench kernels: costs and floors instead of times
};

// Milliseconds.
struct Timing {
  double median, least, most;
  Timing per(double items) const { return {median / items, least / items, most / items}; }
};
Timing timing_of(std::vector<double> milliseconds);

// One call of f, by the host's clock.
template <class F>
double milliseconds_of(F&& f) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  f();
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

// Two calls to warm up, then at least 9 and at least half a second.
template <class F>
Timing measure(F&& f) {
  f(), f();
  std::vector<double> times;
  double total = 0;
  while (times.size() < 9 || (total < 500 && times.size() < 200)) {
    times.push_back(milliseconds_of(f));
    total += times.back();
  }
  return timing_of(std::move(times));
}

// One call of run(turn), which issues work to `device`: on a GPU by its own clock, several calls in a row; on the CPU
// by the host's. In host-CUDA two calls by the host's clock: its timings are not meaningful.
Timing time_calls(Device device, const std::function<void(size_t turn)>& run);

// One call of f, which is done with its work when it returns, by the host's clock; in host-CUDA as above.
Timing time_steps(Device device, const std::function<void()>& f);
// The same of f and g in turn, so that a machine's moods meet both.
std::pair<Timing, Timing> time_in_turn(Device device, const std::function<void()>& f,
                                       const std::function<void()>& g);

// Why f could not be done, in one line; empty where it was. One case that fails is no reason to lose the others.
template <class F>
std::string failure_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return one_line(error.what());
  } catch (const std::bad_alloc&) {
    return "out of memory";
  }
  return "";
}

// Four times the last cache of the device: arrays to measure memory with make up so many bytes.
int64_t beyond_caches(Device device);
// The most memory that tensors on the device took since reset_peak (engine/memory/memory.h).
Json peak_memory(Device device);

// What the device can do at most, measured now; on a GPU by a large product of the placement's type, of the
// fastest kernel that there is, and a copy far cold_bytes the L2 cache.
Peaks peaks_of(Placement where);
// The same, or those of the report that --peaks names. Throws UsageError where that is of another device,
// number of threads or type.
Peaks peaks_of(const BenchOptions& options, Placement where);
std::string text_of(const Peaks& peaks);  // "731 GFLOP/s (product of 8192, bf16 by cublaslt), copy ..."

// What every file of figures begins with: which program, when, by which command, on what.
Json bench_header(const std::string& what, Device device);
// The same with threads, type and peaks: what --peaks reads.
Json bench_header(const std::string& what, const BenchOptions& options, Placement where, const Peaks& peaks);

// Prints each row when it is there, and writes all to -o FILE.json.
class BenchReport {
 public:
  // Measures the peaks first, unless they are given.
  BenchReport(const BenchOptions& options, const std::string& what, Placement where);
  // Whether --only lets this row pass.
  bool wants(const std::string& name) const;
  // ms and gflop per item (image, photo); gflop 0: not a matter of arithmetic. `more` is kept in the file.
  void add(const std::string& name, const Timing& ms, double gflop, Json more = Json::object());
  int finish();  // throws Error where --only named no row

 private:
  const BenchOptions& options_;
  Peaks peaks_;
  Json report_;
};

// Matrix FLOPs of one image by the mathematics, 2 per multiply-add; elementwise work is not counted.
// Forward, and both gradients of every product except the one to the pixels.
double training_gflop(const ModelConfig& model);

int bench_model(const BenchOptions& options, Placement where);
#ifndef QFM_DEPLOY
int bench_train(const BenchOptions& options, Placement where);
int bench_tune(const BenchOptions& options, Placement where);
int bench_decode(const BenchOptions& options);
int bench_kernels(const BenchOptions& options, Placement where);
int bench_plan(const BenchOptions& options, DType dtype);  // bench kernels --plan
#endif

}  // namespace qfm
