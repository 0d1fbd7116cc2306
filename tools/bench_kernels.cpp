// qfm bench kernels: each kernel alone, the study ladders, and what a step must cost at least (--plan).
#include <algorithm>
#include <cmath>
#include <map>

#include "engine/base/cuda.h"
#include "engine/base/io.h"
#include "engine/base/threads.h"
#include "engine/profile.h"
#include "kernels/choice.h"
#include "tools/bench.h"
#include "tools/console.h"
#include "tools/kernel_cases.h"
#include "tools/ladders.h"
#include "tools/version.h"
#include "train/optimizer.h"
#include "train/trainer.h"

namespace qfm {
namespace {

// Cards for the floors of a plan. Copy rates and BF16 matrix rates as measured on such cards; F32 without
// tensor cores from the data sheet.
struct Card {
  const char* name;
  double copy_gbs, bf16_gflops, f32_gflops;
  double floor_us(const ProfileRow& op, DType dtype) const {
    const double rate = dtype == DType::BF16 ? bf16_gflops : f32_gflops;
    return 1e6 * std::max(op.bytes / (copy_gbs * 1e9), op.flops / (rate * 1e9));
  }
};
constexpr Card kCards[] = {{"H100", 3000, 798e3, 67e3}, {"H200", 4300, 790e3, 67e3}};

// FLOPs and bytes of every op of one training step, as the ops state them, by running it on the CPU.
std::map<std::string, ProfileRow> costs_of_step(const ModelConfig& config, int64_t batch, DType dtype) {
  QfmIqm model(config, cpu_device, dtype, true);
  model.init(0);
  Optimizer optimizer(model.params);
  const Tensor images = Tensor::zeros({batch, 3, config.vit.image_height, config.vit.image_width});
  const Tensor labels = Tensor::zeros({batch});
  const bool before = profiling();
  reset_profile();
  set_profiling(true);
  train_step(model, optimizer, images, labels, 1e-5);
  std::map<std::string, ProfileRow> costs;
  for (ProfileRow& row : profile_rows()) costs[row.name] = row;
  set_profiling(before);
  reset_profile();
  return costs;
}

// Costs are linear in the batch (weights count once), so two small steps tell those of any.
std::vector<ProfileRow> extrapolated(const ModelConfig& config, int64_t batch, DType dtype) {
  const auto one = costs_of_step(config, 1, dtype), two = costs_of_step(config, 2, dtype);
  std::vector<ProfileRow> rows;
  for (const auto& [name, at_one] : one) {
    const ProfileRow& at_two = two.at(name);
    const auto more = static_cast<double>(batch - 1);
    rows.push_back({name, at_one.calls, 0, at_one.flops + more * (at_two.flops - at_one.flops),
                    at_one.bytes + more * (at_two.bytes - at_one.bytes)});
  }
  return rows;
}

int print_plan(const BenchOptions& options, DType dtype) {
  const std::string arch = options.arch.empty() ? "vit-small" : options.arch;
  const int64_t batch = options.batch > 0 ? options.batch : 256;
  auto rows = extrapolated(model_config(arch), batch, dtype);
  std::erase_if(rows, [&](const ProfileRow& r) { return r.name.find(options.only) == std::string::npos; });
  QFM_CHECK(!rows.empty(), "--only ", options.only, ": no op has this in its name");
  std::sort(rows.begin(), rows.end(), [&](const ProfileRow& a, const ProfileRow& b) {
    return kCards[0].floor_us(a, dtype) > kCards[0].floor_us(b, dtype);
  });
  Json report = bench_header("kernels --plan", cpu_device);
  report.update({{"arch", arch}, {"batch", batch}, {"dtype", name_of(dtype)}, {"rows", Json::array()}});
  print(format("one training step of %s, batch %lld, %s: what each op must compute and move at least\n",
               arch.c_str(), static_cast<long long>(batch), name_of(dtype)));
  print(format("%-28s %6s %12s %12s %12s %12s\n", "op", "calls", "GFLOP", "MB", "H100 us", "H200 us"));
  ProfileRow sum{"sum of the floors", 0, 0, 0, 0};
  double floors[2] = {};
  const auto show = [&](const ProfileRow& r, const double* us) {
    print(format("%-28s %6llu %12.3f %12.2f %12.1f %12.1f\n", r.name.c_str(),
                 static_cast<unsigned long long>(r.calls), r.flops / 1e9, r.bytes / 1e6, us[0], us[1]));
    report["rows"].push_back({{"name", r.name},
                              {"calls", r.calls},
                              {"flops", r.flops},
                              {"bytes", r.bytes},
                              {"floor_us_h100", us[0]},
                              {"floor_us_h200", us[1]}});
  };
  for (const ProfileRow& r : rows) {
    const double us[2] = {kCards[0].floor_us(r, dtype), kCards[1].floor_us(r, dtype)};
    show(r, us);
    sum.calls += r.calls, sum.flops += r.flops, sum.bytes += r.bytes;
    for (int i = 0; i < 2; ++i) floors[i] += us[i];
  }
  show(sum, floors);
  print(format("no kernel overlapping another: at most %.0f (H100), %.0f (H200) images a second\n",
               1e6 * static_cast<double>(batch) / floors[0], 1e6 * static_cast<double>(batch) / floors[1]));
  if (!options.output.empty()) write_file(options.output, report.dump(2) + "\n");
  return 0;
}

class KernelReport {
 public:
  KernelReport(const BenchOptions& options, Placement where, const std::string& arch, int64_t batch)
      : options_(options), peaks_(peaks_of(where)) {
    report_ = bench_header("kernels", where.device);
    report_.update({{"threads", threads()},
                    {"arch", arch},
                    {"batch", batch},
                    {"dtype", options.common.dtype},
                    {"peak_gflops", rounded(peaks_.gflops)},
                    {"peak_by", peaks_.isa},
                    {"copy_gbs", rounded(peaks_.copy_gbs)},
                    {"rows", Json::array()},
                    {"ladders", Json::array()}});
    say_kernels(report_, where.device);
    print(format("%s, %s, commit %s\nmeasured peak: %.0f GFLOP/s (%s), copy %.1f GB/s\n",
                 report_["device"].get<std::string>().c_str(), options.common.dtype.c_str(), commit(),
                 peaks_.gflops, peaks_.isa.c_str(), peaks_.copy_gbs));
    if (where.device != cpu_device && !cuda::keeps_time())
      print("host-CUDA is there to check kernels: its times say nothing about a GPU\n");
  }

  void add(const KernelCase& c, const Timing& ms, bool by_vendor) {
    if (report_["rows"].empty())
      print(format("%-22s %-18s %10s %22s %10s %8s %9s %8s\n", "", "", "ms median", "[min, max]", "GFLOP/s",
                   "of peak", "GB/s", "of copy"));
    const double seconds = ms.median / 1e3, gflops = c.flops / seconds / 1e9, gbs = c.bytes / seconds / 1e9;
    Json row = {{"name", c.name},
                {"shape", c.shape},
                {"median_ms", ms.median},
                {"min_ms", ms.least},
                {"max_ms", ms.most},
                {"by", by_vendor ? "vendor" : "own"},
                {"gbs", gbs},
                {"share_of_copy", gbs / peaks_.copy_gbs}};
    std::string line = format("%-22s %-18s %10.4f [%9.4f, %9.4f]", c.name.c_str(), c.shape.c_str(), ms.median,
                              ms.least, ms.most);
    if (c.flops > 0) {
      row.update({{"gflops", gflops}, {"share_of_peak", gflops / peaks_.gflops}});
      line += format(" %10.1f %7.1f%%", gflops, 100 * gflops / peaks_.gflops);
    } else {
      line += format(" %10s %8s", "", "");
    }
    report_["rows"].push_back(row);
    print(line + format(" %9.1f %7.1f%%\n", gbs, 100 * gbs / peaks_.copy_gbs));
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
  if (options.plan) return print_plan(options, where.dtype);
  const std::string arch = options.arch.empty() ? "vit-small" : options.arch;
  const VitConfig vit = model_config(arch).vit;
  const bool on_cpu = where.device == cpu_device, on_gpu = !on_cpu && cuda::keeps_time();
  const int64_t batch = options.batch > 0 ? options.batch : on_gpu ? 256 : on_cpu ? 8 : 1;
  const int64_t last_cache = on_gpu ? int64_t{50} << 20 : on_cpu ? int64_t{32} << 20 : 0;
  KernelReport report(options, where, arch, batch);
  for (const KernelCase& c : kernel_cases(vit, batch, where, 4 * last_cache))
    if (c.name.find(options.only) != std::string::npos) {
      const uint64_t before = vendor_calls();
      const Timing ms = time_calls(where.device, c.prepare());
      report.add(c, ms, vendor_calls() > before);
    }
  if (!on_cpu) {
    const Placement bf16{where.device, DType::BF16};
    const Peaks peaks = where.dtype == DType::BF16 ? report.peaks() : peaks_of(bf16);
    report.add_ladders(bench_ladders(options.only, vit, batch, where.device, peaks, 4 * last_cache));
  }
  return report.finish();
}

}  // namespace qfm
