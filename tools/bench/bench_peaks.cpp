// The yardsticks of a report: measured now, or those of an earlier report of the same machine.
#include <type_traits>

#include "engine/base/io.h"
#include "engine/base/threads.h"
#include "engine/cuda/cuda.h"
#include "engine/dispatch.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_cublas.h"
#include "tools/bench/bench.h"
#include "tools/bench/cold_buffers.h"
#include "tools/cli/console.h"

namespace qfm {
namespace {

// c = a b^T by cuBLASLt's suggestion of that number, or by our own kernel where it is negative. False: there
// is no such suggestion.
bool multiply(const GemmShape& shape, const Tensor& c, const Tensor& a, const Tensor& b, int algorithm) {
  bool served = false;
  dispatch({"gemm"}, a, [&](auto dev, auto t) {
    using T = decltype(t);
    if constexpr (std::is_same_v<decltype(dev), Cuda>) {
      T* to = ptr<T>(c);
      const T *left = ptr<const T>(a), *right = ptr<const T>(b);
      if (algorithm >= 0)
        return void(served = cublas::gemm_by<T, T>(dev, algorithm, shape, to, left, right, {}));
      gemm_own<T, T>(dev, shape, to, left, right, {});
      served = true;
    }
  });
  return served;
}

// The rate of a large product: by the fastest of cuBLASLt's suggestions whatever is preferred, for our own kernels are
// held against it; by our own kernel where there is no cuBLASLt.
void take_product_peak(Peaks& peaks, Placement where) {
  const int64_t n = cuda::keeps_time() ? 8192 : 128;
  // Normal numbers: zeros draw less power, which lets the clock rise.
  const ColdBuffers make(where, 1, 0);
  const BufferTurns a = make({n, n}), b = make({n, n}), c = make({n, n});
  const GemmShape shape{n, n, n, false, true};
  const auto run = [&](int algorithm) {
    try {
      return multiply(shape, c[0], a[0], b[0], algorithm);
    } catch (const Error&) {
      return false;  // a suggestion that the library then cannot run is none
    }
  };
  const auto take = [&](int algorithm, const char* by) {
    const double gflops =
        shape.flops() / time_calls(where.device, [&](size_t) { run(algorithm); }).least / 1e6;
    if (gflops > peaks.gflops) peaks.gflops = gflops, peaks.by = by;
  };
  peaks.of = concat("product of ", n, ", ", name_of(where.dtype));
  for (int algorithm = 0; run(algorithm); ++algorithm) take(algorithm, "cublaslt");
  if (peaks.gflops == 0) take(-1, "own");
}

double copy_gbs(Device device) {
  const Shape cold_bytes{beyond_caches(device) / int64_t{sizeof(float)}};
  const Tensor from = Tensor::zeros(cold_bytes, DType::F32, device), to = like(from);
  const double ms = time_calls(device, [&](size_t) { to.copy_from(from); }).least;
  return 2.0 * static_cast<double>(from.bytes()) / ms / 1e6;
}

std::string name_of_device(Device device) { return device == cpu_device ? cpu_name() : cuda::device_name(); }

Peaks read_peaks(const std::string& path, const std::string& dtype, Device device) {
  const Json report = Json::parse(read_file(path), nullptr, false);
  const auto refuse = [&](const auto&... why) { throw UsageError(concat("--peaks ", path, ": ", why...)); };
  const auto must_be = [&](const char* key, const Json& here) {
    if (report[key] != here) refuse("of ", key, " ", report[key].dump(), ", here it is ", here.dump());
  };
  for (const char* key : {"device", "threads", "dtype", "peak_gflops", "peak_by", "peak_of", "copy_gbs"})
    if (!report.is_object() || !report.contains(key)) refuse("not a report of qfm bench: no \"", key, "\"");
  must_be("device", name_of_device(device));
  must_be("threads", threads());
  must_be("dtype", dtype);
  try {
    return {report["peak_gflops"], report["peak_by"], report["peak_of"], report["copy_gbs"]};
  } catch (const Json::exception&) {
    throw UsageError("--peaks " + path + ": peaks that are no peaks");
  }
}

}  // namespace

Peaks peaks_of(Placement where) {
  if (where.device == cpu_device) return measure_peaks(threads());
  Peaks peaks;
  take_product_peak(peaks, where);
  peaks.copy_gbs = copy_gbs(where.device);
  return peaks;
}

Peaks peaks_of(const BenchOptions& options, Placement where) {
  return options.peaks.empty() ? peaks_of(where)
                               : read_peaks(options.peaks, options.common.dtype, where.device);
}

Json bench_header(const std::string& what, const BenchOptions& options, Placement where, const Peaks& peaks) {
  Json header = bench_header(what, where.device);
  header.update({{"threads", threads()},
                 {"dtype", options.common.dtype},
                 {"peak_gflops", rounded(peaks.gflops)},
                 {"peak_by", peaks.by},
                 {"peak_of", peaks.of},
                 {"copy_gbs", rounded(peaks.copy_gbs)}});
  if (!options.peaks.empty()) header["peaks_from"] = options.peaks;
  return header;
}

std::string text_of(const Peaks& peaks) {
  return format("%.0f GFLOP/s (%s by %s), copy %.1f GB/s", peaks.gflops, peaks.of.c_str(), peaks.by.c_str(),
                peaks.copy_gbs);
}

}  // namespace qfm
