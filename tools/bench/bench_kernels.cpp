// qfm bench kernels: each kernel alone, and the study ladders.
#include "engine/base/io.h"
#include "engine/cuda/cuda.h"
#include "kernels/vendor/kernel_policy.h"
#include "kernels/vendor/vendor_case.h"
#include "tools/bench/bench.h"
#include "tools/bench/image_cases.h"
#include "tools/bench/ladders.h"
#include "tools/bench/model_cases.h"
#include "tools/cli/console.h"
#include "tools/cli/version.h"

namespace qfm {
namespace {

class KernelReport {
 public:
  KernelReport(const BenchOptions& options, Placement where, const std::string& arch, int64_t batch)
      : options_(options), peaks_(peaks_of(options, where)) {
    report_ = bench_header("kernels", options, where, peaks_);
    report_.update({{"arch", arch}, {"batch", batch}, {"rows", Json::array()}, {"ladders", Json::array()}});
    add_kernels(report_, where.device);
    print(format("%s, %s, commit %s\nmeasured peak: %s\n", report_["device"].get<std::string>().c_str(),
                 options.common.dtype.c_str(), commit(), text_of(peaks_).c_str()));
    if (where.device != cpu_device && !cuda::keeps_time())
      print("host-CUDA is there to check kernels: its times say nothing about a GPU\n");
  }

  // A row of figures, or of the reason why there are none.
  void measure(const KernelCase& c, Device device) {
    if (report_["rows"].empty())
      print(format("%-28s %-18s %10s %22s %10s %8s %9s %8s\n", "", "", "ms median", "[min, max]", "GFLOP/s",
                   "of peak", "GB/s", "of copy"));
    const uint64_t before = vendor_calls();
    Timing ms{};
    const std::string failure =
        failure_of([&] { ms = time_calls(device, prepared(c, device, beyond_caches(device))); });
    if (failure.empty()) {
      add(c, ms, vendor_calls() > before ? "vendor" : "own");
      if (const TimedRun peer = device == cpu_device ? prepared_by_onednn(c) : nullptr)
        add(c, time_calls(device, peer), "onednn");
      return;
    }
    report_["rows"].push_back({{"name", c.name}, {"shape", c.shape}, {"error", failure}});
    print(format("%-28s %-18s failed: %s\n", c.name.c_str(), c.shape.c_str(), failure.c_str()));
    ++failed_;
  }

  const Peaks& peaks() const { return peaks_; }
  void add_ladders(Json ladders) {
    for (const Json& ladder : ladders)
      for (const Json& row : ladder["rows"]) failed_ += row.contains("error");
    report_["ladders"] = std::move(ladders);
  }

  // The exit code.
  int finish() {
    QFM_CHECK(!report_["rows"].empty() || !report_["ladders"].empty(), "--only ", options_.only,
              ": no kernel has this in its name");
    if (const auto failures = vendor_failures(); !failures.empty()) report_["vendor_failures"] = failures;
    if (!options_.output.empty()) write_file(options_.output, report_.dump(2) + "\n");
    if (failed_ == 0) return 0;
    warn(error_line(
        concat("bench kernels: ", failed_, " could not be measured, see the rows that say failed")));
    return 1;
  }

 private:
  void add(const KernelCase& c, const Timing& ms, const char* by) {
    const double seconds = ms.median / 1e3, gflops = c.flops / seconds / 1e9, gbs = c.bytes / seconds / 1e9;
    Json row = {{"name", c.name},     {"shape", c.shape},  {"median_ms", ms.median},
                {"min_ms", ms.least}, {"max_ms", ms.most}, {"by", by},
                {"bytes", c.bytes},   {"gbs", gbs},        {"share_of_copy", gbs / peaks_.copy_gbs}};
    const std::string name = by == std::string("onednn") ? "  by oneDNN" : c.name;
    std::string line = format("%-28s %-18s %10.4f [%9.4f, %9.4f]", name.c_str(), c.shape.c_str(), ms.median,
                              ms.least, ms.most);
    if (c.flops > 0) {
      row.update({{"gflops", gflops}, {"share_of_peak", gflops / peaks_.gflops}});
      line += format(" %10.1f %7.1f%%", gflops, 100 * gflops / peaks_.gflops);
    } else {
      line += format(" %10s %8s", "", "");
    }
    if (!c.note.empty()) row["note"] = c.note;
    report_["rows"].push_back(row);
    print(line + format(" %9.1f %7.1f%%%s%s\n", gbs, 100 * gbs / peaks_.copy_gbs, c.note.empty() ? "" : "  ",
                        c.note.c_str()));
  }

  const BenchOptions& options_;
  const Peaks peaks_;
  Json report_;
  int failed_ = 0;
};

}  // namespace

int bench_kernels(const BenchOptions& options, Placement where) {
  if (options.plan) return bench_plan(options, where.dtype);
  const std::string arch = options.arch.empty() ? "vit-small" : options.arch;
  const ModelConfig config = model_config(arch);
  const bool on_cpu = where.device == cpu_device, on_gpu = !on_cpu && cuda::keeps_time();
  const int64_t batch = options.batch > 0 ? options.batch : on_gpu ? 256 : on_cpu ? 8 : 1;
  KernelReport report(options, where, arch, batch);
  for (const KernelCase& c : model_cases(config, batch, where.dtype))
    if (c.name.find(options.only) != std::string::npos) report.measure(c, where.device);
  if (!options.only.empty() && where.dtype != DType::I8)  // a hundred rows, of other networks
    for (const KernelCase& c : image_cases(batch, where.dtype))
      if (c.name.find(options.only) != std::string::npos) report.measure(c, where.device);
  if (!on_cpu) {
    const Placement bf16{where.device, DType::BF16};
    const Peaks peaks = where.dtype == DType::BF16 ? report.peaks() : peaks_of(bf16);
    report.add_ladders(
        bench_ladders(options.only, transformer_of(config), batch, where.device, peaks, beyond_caches(where.device)));
  }
  return report.finish();
}

}  // namespace qfm
