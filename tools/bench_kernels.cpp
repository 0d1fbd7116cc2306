// qfm bench kernels: each kernel alone, and the study ladders.
#include "engine/base/cuda.h"
#include "engine/base/io.h"
#include "kernels/choice.h"
#include "tools/bench.h"
#include "tools/console.h"
#include "tools/kernel_cases.h"
#include "tools/ladders.h"
#include "tools/version.h"

namespace qfm {
namespace {

class KernelReport {
 public:
  KernelReport(const BenchOptions& options, Placement where, const std::string& arch, int64_t batch)
      : options_(options), peaks_(peaks_of(options, where)) {
    report_ = bench_header("kernels", options, where, peaks_);
    report_.update({{"arch", arch}, {"batch", batch}, {"rows", Json::array()}, {"ladders", Json::array()}});
    say_kernels(report_, where.device);
    print(format("%s, %s, commit %s\nmeasured peak: %s\n", report_["device"].get<std::string>().c_str(),
                 options.common.dtype.c_str(), commit(), text_of(peaks_).c_str()));
    if (where.device != cpu_device && !cuda::keeps_time())
      print("host-CUDA is there to check kernels: its times say nothing about a GPU\n");
  }

  void add(const KernelCase& c, const Timing& ms, bool by_vendor) {
    if (report_["rows"].empty())
      print(format("%-28s %-18s %10s %22s %10s %8s %9s %8s\n", "", "", "ms median", "[min, max]", "GFLOP/s",
                   "of peak", "GB/s", "of copy"));
    const double seconds = ms.median / 1e3, gflops = c.flops / seconds / 1e9, gbs = c.bytes / seconds / 1e9;
    Json row = {{"name", c.name},     {"shape", c.shape},  {"median_ms", ms.median},
                {"min_ms", ms.least}, {"max_ms", ms.most}, {"by", by_vendor ? "vendor" : "own"},
                {"bytes", c.bytes},   {"gbs", gbs},        {"share_of_copy", gbs / peaks_.copy_gbs}};
    std::string line = format("%-28s %-18s %10.4f [%9.4f, %9.4f]", c.name.c_str(), c.shape.c_str(), ms.median,
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

  const Peaks& peaks() const { return peaks_; }
  void add_ladders(Json ladders) { report_["ladders"] = std::move(ladders); }

  int finish() const {
    QFM_CHECK(!report_["rows"].empty() || !report_["ladders"].empty(), "--only ", options_.only,
              ": no kernel has this in its name");
    if (!options_.output.empty()) write_file(options_.output, report_.dump(2) + "\n");
    return 0;
  }

 private:
  const BenchOptions& options_;
  const Peaks peaks_;
  Json report_;
};

}  // namespace

int bench_kernels(const BenchOptions& options, Placement where) {
  if (options.plan) return bench_plan(options, where.dtype);
  const std::string arch = options.arch.empty() ? "vit-small" : options.arch;
  const ModelConfig config = model_config(arch);
  const bool on_cpu = where.device == cpu_device, on_gpu = !on_cpu && cuda::keeps_time();
  const int64_t batch = options.batch > 0 ? options.batch : on_gpu ? 256 : on_cpu ? 8 : 1;
  const int64_t beyond = beyond_caches(where.device);
  KernelReport report(options, where, arch, batch);
  for (const KernelCase& c : kernel_cases(config, batch, where, beyond))
    if (c.name.find(options.only) != std::string::npos) {
      const uint64_t before = vendor_calls();
      const Timing ms = time_calls(where.device, c.prepare());
      report.add(c, ms, vendor_calls() > before);
    }
  if (!on_cpu) {
    const Placement bf16{where.device, DType::BF16};
    const Peaks peaks = where.dtype == DType::BF16 ? report.peaks() : peaks_of(bf16);
    report.add_ladders(bench_ladders(options.only, config.vit, batch, where.device, peaks, beyond));
  }
  return report.finish();
}

}  // namespace qfm
